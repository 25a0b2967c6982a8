package main

import (
	"context"
	"sync"
	"time"
)

// Goroutines that are blocked and can be woken: each is woken after the look.

var (
	globalSignal  chan bool
	globalSignals = map[string]any{}
	globalLock    document
	globalGroup   sync.WaitGroup
	globalCond    = sync.NewCond(new(sync.Mutex))
	globalReady   bool
	globalCancel  context.CancelFunc
)

func noLeakGlobal(s *scene) func() {
	return heldByStatic(s)
}

func heldByStatic(s *scene) func() {
	globalSignal = make(chan bool)
	s.held(func() { <-globalSignal })
	return func() { globalSignal <- true }
}

func heldByStaticMap(s *scene) func() {
	signal := make(chan bool)
	globalSignals["signal"] = signal
	s.held(func() { <-signal })
	return func() { globalSignals["signal"].(chan bool) <- true }
}

func heldByStaticLock(s *scene) func() {
	globalLock.lock.Lock()
	s.held(func() {
		globalLock.lock.Lock()
		globalLock.lock.Unlock()
	})
	return func() { globalLock.lock.Unlock() }
}

// gate holds back who sleeps until it is opened.
type gate struct {
	lock sync.Mutex
	open bool
}

func (g *gate) pass() {
	for {
		g.lock.Lock()
		open := g.open
		g.lock.Unlock()
		if open {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (g *gate) let() {
	g.lock.Lock()
	g.open = true
	g.lock.Unlock()
}

func heldBySleeper(s *scene) func() {
	signal, closed := make(chan bool), new(gate)
	s.held(func() { <-signal })
	go func() {
		closed.pass()
		signal <- true
	}()
	return closed.let
}

func heldByTimer(s *scene) func() {
	signal := make(chan bool)
	timer := time.AfterFunc(time.Hour, func() { close(signal) })
	s.held(func() { <-signal })
	return func() { timer.Reset(0) }
}

func heldInBuffer(s *scene) func() {
	signal := make(chan bool)
	post := make(chan chan bool, 1)
	post <- signal
	s.held(func() { <-signal })
	return func() { (<-post) <- true }
}

func heldByChain(s *scene) func() {
	first := make(chan bool)
	from := first
	for range 5 {
		to := make(chan bool, 1)
		wait := from
		s.held(func() {
			<-wait
			to <- true
		})
		from = to
	}
	return func() { first <- true }
}

func heldByContext(s *scene) func() {
	work, cancel := context.WithCancel(context.Background())
	globalCancel = cancel
	s.held(func() { <-work.Done() })
	return func() { globalCancel() }
}

func heldByWaitGroup(s *scene) func() {
	globalGroup.Add(1)
	s.held(globalGroup.Wait)
	return globalGroup.Done
}

func heldByCond(s *scene) func() {
	s.held(func() {
		globalCond.L.Lock()
		for !globalReady {
			globalCond.Wait()
		}
		globalCond.L.Unlock()
	})
	return func() {
		globalCond.L.Lock()
		globalReady = true
		globalCond.L.Unlock()
		globalCond.Broadcast()
	}
}
