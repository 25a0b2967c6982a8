package main

import (
	"runtime"
	"sync"
	"time"
)

const (
	yieldersPerWorker = 16
	spawnBatch        = 1000
	children          = 10
)

// yields: an operation is a Gosched. The time is that of one worker: wall time multiplied by the workers.
func yields(operations int) time.Duration {
	workers := runtime.GOMAXPROCS(0)
	count := yieldersPerWorker * workers
	wall := together(count, func(index int) {
		for range share(operations, count, index) {
			runtime.Gosched()
		}
	})
	return wall * time.Duration(workers)
}

// together runs count goroutines that start at the same moment, and says how long until the last has ended.
func together(count int, body func(index int)) time.Duration {
	var arrived, ended sync.WaitGroup
	arrived.Add(count)
	ended.Add(count)
	gate := make(chan struct{})
	for index := range count {
		go func() {
			arrived.Done()
			<-gate
			body(index)
			ended.Done()
		}()
	}
	arrived.Wait()
	start := time.Now()
	close(gate)
	ended.Wait()
	return time.Since(start)
}

// spawnJoin: an operation is a goroutine that is started, does nothing, and is waited for, in batches of 1000. Go has no
// handles to join, so each batch has a wait group.
func spawnJoin(operations int) time.Duration {
	start := time.Now()
	for left := operations; left > 0; left -= spawnBatch {
		now := min(left, spawnBatch)
		var batch sync.WaitGroup
		batch.Add(now)
		for range now {
			go batch.Done()
		}
		batch.Wait()
	}
	return time.Since(start)
}

// skynet: an operation is a leaf.
func skynet(leaves int) time.Duration {
	start := time.Now()
	up := make(chan int)
	go node(up, 0, leaves)
	sum := <-up
	elapsed := time.Since(start)
	if sum != leaves*(leaves-1)/2 {
		fail("skynet has lost a leaf")
	}
	return elapsed
}

func node(up chan<- int, first, leaves int) {
	if leaves == 1 {
		up <- first
		return
	}
	below := make(chan int)
	share := leaves / children
	for child := range children {
		go node(below, first+child*share, share)
	}
	sum := 0
	for range children {
		sum += <-below
	}
	up <- sum
}
