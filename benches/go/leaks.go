package main

import (
	"io"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// block is a piece of memory that is full of pointers to others: see src/workload/leaks.rs.
type block struct {
	links [8]*block
}

const heapBytes = 109 << 20

// leaks finds a tenth of the goroutines leaked, each on a channel of its own or all on one.
func leaks(tasks, batches int, shared bool) map[string]float64 {
	profile := leakProfile()
	leaked := tasks / 10
	var arrived sync.WaitGroup
	forget(leaked, shared, &arrived)
	channels := make([]chan byte, tasks-leaked)
	for i := range channels {
		channels[i] = make(chan byte)
		waitOn(channels[i], &arrived)
	}
	arrived.Wait()
	nodes := fill(heapBytes / int(unsafe.Sizeof(block{})))
	values := timeLeaks(profile, batches)
	runtime.KeepAlive(channels)
	runtime.KeepAlive(nodes)
	return values
}

// leakChain has tasks each of which waits on the channel that the one before it has, none leaked but one beside them.
func leakChain(tasks, batches int) map[string]float64 {
	profile := leakProfile()
	var arrived sync.WaitGroup
	forget(1, false, &arrived)
	first := make(chan byte)
	channel := first
	for range tasks - 1 {
		next := make(chan byte)
		waitWith(channel, next, &arrived)
		channel = next
	}
	arrived.Wait()
	values := timeLeaks(profile, batches)
	runtime.KeepAlive(first)
	return values
}

func waitWith(channel, next chan byte, arrived *sync.WaitGroup) {
	arrived.Add(1)
	go func() {
		arrived.Done()
		<-channel
		next <- 1
	}()
}

func leakProfile() *pprof.Profile {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		fail("this Go has no goroutineleak profile: use 1.27, or 1.26 with GOEXPERIMENT=goroutineleakprofile")
	}
	return profile
}

// timeLeaks gives the milliseconds of the median leak profile, and how many goroutines it has.
func timeLeaks(profile *pprof.Profile, batches int) map[string]float64 {
	runtime.GC()
	times := make([]float64, batches)
	for i := range times {
		start := time.Now()
		if err := profile.WriteTo(io.Discard, 0); err != nil {
			fail(err.Error())
		}
		times[i] = float64(time.Since(start).Nanoseconds()) / 1e6
	}
	var text strings.Builder
	if err := profile.WriteTo(&text, 1); err != nil {
		fail(err.Error())
	}
	first, _, _ := strings.Cut(text.String(), "\n")
	_, total, known := strings.Cut(first, "total ")
	if !known {
		fail("the goroutineleak profile begins with " + first)
	}
	return map[string]float64{"scan": median(times), "found": float64(number(total))}
}

func waitOn(channel chan byte, arrived *sync.WaitGroup) {
	arrived.Add(1)
	go func() {
		arrived.Done()
		<-channel
	}()
}

//go:noinline
func forget(leaked int, shared bool, arrived *sync.WaitGroup) {
	one := make(chan byte)
	for range leaked {
		if shared {
			waitOn(one, arrived)
		} else {
			waitOn(make(chan byte), arrived)
		}
	}
}

// fill makes nodes that point to each other at random.
func fill(count int) []*block {
	nodes := make([]*block, count)
	for i := range nodes {
		nodes[i] = new(block)
	}
	state := uint64(1)
	for _, from := range nodes {
		for i := range from.links {
			// The constants are Knuth's, of MMIX.
			state = state*6364136223846793005 + 1442695040888963407
			from.links[i] = nodes[int(state>>33)%len(nodes)]
		}
	}
	return nodes
}
