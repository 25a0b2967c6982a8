package main

import (
	"sync"
	"time"
)

const (
	capacity = 128
	ends     = 4
)

// pingPong: an operation is a round trip over two rendezvous channels.
func pingPong(operations int) time.Duration {
	there, back := make(chan int), make(chan int)
	go func() {
		for number := range there {
			back <- number
		}
		close(back)
	}()
	round := func(number int) {
		there <- number
		if <-back != number {
			fail("ping-pong has lost a number")
		}
	}
	round(0)
	start := time.Now()
	for number := 1; number <= operations; number++ {
		round(number)
	}
	elapsed := time.Since(start)
	close(there)
	<-back
	return elapsed
}

// spsc: an operation is a value that one goroutine sends and another receives.
func spsc(operations int) time.Duration {
	return many(1, operations)
}

// mpmc: an operation is a value that one of four goroutines sends and one of four others receives.
func mpmc(operations int) time.Duration {
	return many(ends, operations)
}

func many(ends, operations int) time.Duration {
	values := make(chan int, capacity)
	var producers, consumers sync.WaitGroup
	producers.Add(ends)
	consumers.Add(ends)
	received := make([]int, ends)
	start := time.Now()
	for index := range ends {
		go func() {
			count := 0
			for range values {
				count++
			}
			received[index] = count
			consumers.Done()
		}()
	}
	for index := range ends {
		go func() {
			for value := range share(operations, ends, index) {
				values <- value
			}
			producers.Done()
		}()
	}
	producers.Wait()
	close(values)
	consumers.Wait()
	elapsed := time.Since(start)
	sum := 0
	for _, count := range received {
		sum += count
	}
	if sum != operations {
		fail("values were lost in a channel")
	}
	return elapsed
}

// selectTwo: an operation is a value that one of two goroutines sends on a channel of its own, and a third receives by
// selecting over both channels.
func selectTwo(operations int) time.Duration {
	left, right := make(chan int, capacity), make(chan int, capacity)
	start := time.Now()
	for index, values := range []chan int{left, right} {
		go func() {
			for value := range share(operations, 2, index) {
				values <- value
			}
		}()
	}
	for range operations {
		select {
		case <-left:
		case <-right:
		}
	}
	return time.Since(start)
}
