package main

import (
	"sync"
	"time"
)

const sharers = 8

// mutexAlone: an operation is a lock, an addition and an unlock by the only goroutine.
func mutexAlone(operations int) time.Duration {
	var mutex sync.Mutex
	count := 0
	start := time.Now()
	for range operations {
		mutex.Lock()
		count++
		mutex.Unlock()
	}
	elapsed := time.Since(start)
	if count != operations {
		fail("the mutex has let a count get lost")
	}
	return elapsed
}

// mutexShared: the same by one of eight goroutines, which do nothing else.
func mutexShared(operations int) time.Duration {
	var mutex sync.Mutex
	count := 0
	elapsed := together(sharers, func(index int) {
		for range share(operations, sharers, index) {
			mutex.Lock()
			count++
			mutex.Unlock()
		}
	})
	if count != operations {
		fail("the mutex has let a count get lost")
	}
	return elapsed
}
