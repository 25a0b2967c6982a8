package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

func chanRecv(s *scene) func() {
	values := make(chan int)
	s.leaks(func() { <-values })
	return nil
}

func chanSend(s *scene) func() {
	values := make(chan int)
	s.leaks(func() { values <- 1 })
	return nil
}

// document has a lock and enough beside it to have an allocation of its own.
type document struct {
	lock sync.Mutex
	text [4]string
}

func mutexHeap(s *scene) func() {
	it := new(document)
	s.leaks(func() {
		it.lock.Lock()
		it.lock.Lock()
	})
	return nil
}

func nilRecv(s *scene) func() {
	s.leaks(func() {
		var never chan int
		<-never
	})
	return nil
}

func nilSend(s *scene) func() {
	s.leaks(func() {
		var never chan int
		never <- 1
	})
	return nil
}

func rwmutexLock(s *scene) func() {
	lock := new(sync.RWMutex)
	s.leaks(func() {
		lock.Lock()
		lock.Lock()
	})
	return nil
}

func selectNoCases(s *scene) func() {
	s.leaks(func() { select {} })
	return nil
}

// doubleSend: a return is missing after the error.
func doubleSend(s *scene) func() {
	answers := make(chan string)
	s.leaks(func() {
		answers <- "no such row"
		answers <- "7"
	})
	<-answers
	return nil
}

// earlyReturn: who asked for an answer returns before it is there.
func earlyReturn(s *scene) func() {
	ask := func(isValid bool) {
		answer := make(chan int)
		s.leaks(func() { answer <- 42 })
		if !isValid {
			return
		}
		<-answer
	}
	ask(false)
	return nil
}

type ticking struct {
	work, stop chan bool
}

// methodContract: nobody calls the method that ends the object's goroutine.
func methodContract(s *scene) func() {
	object := &ticking{make(chan bool), make(chan bool)}
	s.leaks(func() {
		for {
			select {
			case <-object.work:
			case <-object.stop:
				return
			}
		}
	})
	object.work <- true
	return nil
}

// timeoutPattern: who waits gives up.
func timeoutPattern(s *scene) func() {
	result := make(chan int)
	request, cancel := context.WithCancel(context.Background())
	s.leaks(func() {
		<-request.Done()
		result <- 1
	})
	cancel()
	select {
	case <-request.Done():
	case <-result:
	}
	return nil
}

// cockroach18101: a consumer leaves, the producer fills the channel.
func cockroach18101(s *scene) func() {
	const room = 4
	ranges := make(chan int, room)
	work, cancel := context.WithCancel(context.Background())
	s.leaks(func() {
		for i := range 10 * room {
			ranges <- i
		}
	})
	cancel()
	for {
		select {
		case <-work.Done():
			return nil
		case <-ranges:
		}
	}
}

// cockroach2448: two loops send to each other.
func cockroach2448(s *scene) func() {
	requests, answers := make(chan int), make(chan int)
	s.leaks(func() {
		requests <- 1
		<-answers
	})
	s.leaks(func() {
		answers <- 1
		<-requests
	})
	return nil
}

// cockroach25456: waits for what it would do itself, later.
func cockroach25456(s *scene) func() {
	stopped := make(chan bool)
	s.leaks(func() {
		<-stopped
		close(stopped)
	})
	return nil
}

// cockroach35073: the reader of rows fails at once, and the writers go on.
func cockroach35073(s *scene) func() {
	const room = 2
	rows := make(chan int, room)
	for range 2 {
		s.leaks(func() {
			for i := range 3 * room {
				rows <- i
			}
		})
	}
	return nil
}

// cockroach6181: nested read locks with writers in between.
func cockroach6181(s *scene) func() {
	var lock sync.RWMutex
	var reading atomic.Int32
	var done sync.WaitGroup
	done.Add(3)
	mayGoOn := make(chan bool)
	for range 2 {
		s.leaks(func() {
			defer done.Done()
			lock.RLock()
			reading.Add(1)
			<-mayGoOn
			lock.RLock()
			lock.RUnlock()
			lock.RUnlock()
		})
	}
	for reading.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	s.leaks(func() {
		defer done.Done()
		lock.Lock()
		lock.Unlock()
	})
	s.leaks(done.Wait)
	s.blocked(4)
	close(mayGoOn)
	return nil
}

type lockedName struct {
	lock sync.Mutex
	name string
}

// cockroach7504: two locks in opposite order.
func cockroach7504(s *scene) func() {
	lease, names := &lockedName{name: "lease"}, &lockedName{name: "names"}
	var both sync.WaitGroup
	both.Add(2)
	inOrder := func(first, second *lockedName) func() {
		return func() {
			first.lock.Lock()
			both.Done()
			both.Wait()
			second.lock.Lock()
			second.lock.Unlock()
			first.lock.Unlock()
		}
	}
	s.leaks(inOrder(lease, names))
	s.leaks(inOrder(names, lease))
	return nil
}

type client struct {
	lock   sync.RWMutex
	closed bool
	cancel func()
}

// etcd5509: an error is returned without unlocking.
func etcd5509(s *scene) func() {
	it := &client{closed: true}
	acquired := make(chan bool)
	s.ends(func() {
		it.lock.RLock()
		close(acquired)
		if it.closed {
			return
		}
		it.lock.RUnlock()
	})
	<-acquired
	s.leaks(func() {
		it.lock.Lock()
		it.lock.Unlock()
	})
	return nil
}

func (c *client) endpoints() int {
	c.lock.RLock()
	defer c.lock.RUnlock()
	return 1
}

// etcd6708: calls back into itself.
func etcd6708(s *scene) func() {
	it := new(client)
	s.leaks(func() {
		it.lock.Lock()
		defer it.lock.Unlock()
		it.endpoints()
	})
	return nil
}

// etcd6857: a status is asked of a node that has stopped.
func etcd6857(s *scene) func() {
	type node struct {
		status chan chan int
		stop   chan bool
	}
	it := &node{make(chan chan int), make(chan bool)}
	stopped := make(chan bool)
	s.ends(func() {
		defer close(stopped)
		for {
			select {
			case answer := <-it.status:
				answer <- 1
			case <-it.stop:
				return
			}
		}
	})
	close(it.stop)
	<-stopped
	s.leaks(func() {
		answer := make(chan int)
		it.status <- answer
		<-answer
	})
	return nil
}

// etcd6873: stops with the lock held that who is stopped needs.
func etcd6873(s *scene) func() {
	type broadcast struct {
		lock    sync.Mutex
		updates chan int
		done    chan bool
	}
	it := &broadcast{updates: make(chan int), done: make(chan bool)}
	received := make(chan bool)
	holds := make(chan bool)
	s.leaks(func() {
		for range it.updates {
			close(received)
			<-holds
			it.lock.Lock()
			it.lock.Unlock()
		}
		close(it.done)
	})
	it.updates <- 1
	<-received
	s.leaks(func() {
		it.lock.Lock()
		close(holds)
		close(it.updates)
		<-it.done
		it.lock.Unlock()
	})
	return nil
}

// grpc1275: closing a stream does not tell its reader.
func grpc1275(s *scene) func() {
	type stream struct {
		data chan []byte
		done chan bool
	}
	it := &stream{make(chan []byte, 1), make(chan bool)}
	s.leaks(func() { <-it.data })
	close(it.done)
	return nil
}

// grpc795: locks where it should unlock.
func grpc795(s *scene) func() {
	it := new(document)
	s.leaks(func() {
		it.lock.Lock()
		it.text[0] = "stopped"
		it.lock.Lock()
	})
	return nil
}

// hugo5379: a once needs a lock whose holder waits for the once.
func hugo5379(s *scene) func() {
	type page struct {
		lock sync.Mutex
		once sync.Once
		text string
	}
	it := new(page)
	inOnce, hasLock := make(chan bool), make(chan bool)
	fill := func() {
		it.once.Do(func() { close(inOnce); <-hasLock; it.lock.Lock(); it.text = "x"; it.lock.Unlock() })
	}
	s.leaks(fill)
	<-inOnce
	s.leaks(func() {
		it.lock.Lock()
		close(hasLock)
		fill()
		it.lock.Unlock()
	})
	return nil
}

// kubernetes25331: the last result goes to nobody.
func kubernetes25331(s *scene) func() {
	type watch struct {
		results, errors chan string
	}
	it := &watch{make(chan string), make(chan string, 1)}
	it.errors <- "closed"
	s.leaks(func() {
		reason := <-it.errors
		it.results <- reason
	})
	return nil
}

// kubernetes26980: waits with a lock held that is needed before the signal is given.
func kubernetes26980(s *scene) func() {
	type listener struct {
		lock sync.Mutex
		more chan bool
	}
	it := &listener{more: make(chan bool)}
	locked := make(chan bool)
	s.leaks(func() {
		it.lock.Lock()
		close(locked)
		<-it.more
		it.lock.Unlock()
	})
	<-locked
	s.leaks(func() {
		it.lock.Lock()
		it.lock.Unlock()
		it.more <- true
	})
	return nil
}

// kubernetes38669: stopped before anybody has read the first events.
func kubernetes38669(s *scene) func() {
	type watcher struct {
		input, results chan int
	}
	it := &watcher{make(chan int, 4), make(chan int)}
	s.leaks(func() {
		for event := range it.input {
			it.results <- event
		}
	})
	it.input <- 1
	close(it.input)
	return nil
}

// kubernetes5316: a request is given up.
func kubernetes5316(s *scene) func() {
	results, failures := make(chan int), make(chan error)
	s.leaks(func() { results <- 1 })
	select {
	case <-failures:
	case <-time.After(time.Millisecond):
	}
	return nil
}

// kubernetes70277: waits for a channel to be closed that it would close itself.
func kubernetes70277(s *scene) func() {
	after := make(chan bool)
	s.leaks(func() {
		defer close(after)
		for range after {
		}
	})
	return nil
}

// moby17176: a lock is left locked.
func moby17176(s *scene) func() {
	it := new(document)
	left := make(chan bool)
	s.ends(func() {
		it.lock.Lock()
		close(left)
		if it.text[0] == "" {
			return
		}
		it.lock.Unlock()
	})
	<-left
	s.leaks(func() {
		it.lock.Lock()
		it.lock.Unlock()
	})
	return nil
}

// moby25384: waits for all inside of the loop that starts them.
func moby25384(s *scene) func() {
	s.leaks(func() {
		plugins := []string{"a", "b"}
		var all sync.WaitGroup
		all.Add(len(plugins))
		for range plugins {
			go all.Done()
			all.Wait()
		}
	})
	return nil
}

// moby30408: a condition that a failure keeps from ever holding.
func moby30408(s *scene) func() {
	type plugin struct {
		cond *sync.Cond
		name string
	}
	it := &plugin{cond: sync.NewCond(new(sync.Mutex))}
	s.leaks(func() {
		it.cond.L.Lock()
		for it.name == "" {
			it.cond.Wait()
		}
		it.cond.L.Unlock()
	})
	return nil
}

// moby36114: one method that locks calls another.
func moby36114(s *scene) func() {
	it := new(document)
	detach := func() {
		it.lock.Lock()
		it.lock.Unlock()
	}
	s.leaks(func() {
		it.lock.Lock()
		detach()
		it.lock.Unlock()
	})
	return nil
}

// syncthing4829: listeners are told with the write lock held.
func syncthing4829(s *scene) func() {
	type service struct {
		lock     sync.RWMutex
		mappings map[string]int
	}
	it := &service{mappings: map[string]int{"a": 1}}
	notify := func() {
		it.lock.RLock()
		it.lock.RUnlock()
	}
	s.leaks(func() {
		it.lock.Lock()
		delete(it.mappings, "a")
		notify()
		it.lock.Unlock()
	})
	return nil
}
