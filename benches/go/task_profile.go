package main

import (
	"io"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

// taskProfiles takes profiles of goroutines that all wait on one channel, after one that is not measured, and gives the
// milliseconds of the median one in each form.
func taskProfiles(tasks, profiles int) map[string]float64 {
	gate := make(chan struct{})
	var done sync.WaitGroup
	done.Add(tasks)
	// Those of the program itself.
	before := runtime.NumGoroutine()
	for range tasks {
		go func() {
			<-gate
			done.Done()
		}()
	}
	for runtime.NumGoroutine() < before+tasks {
		time.Sleep(time.Millisecond)
	}
	// All have been started, and none has anything to do but to wait.
	time.Sleep(100 * time.Millisecond)
	values := map[string]float64{"file": profileTime(profiles, 0), "text": profileTime(profiles, 1)}
	close(gate)
	done.Wait()
	return values
}

func profileTime(profiles, debug int) float64 {
	take := func() float64 {
		start := time.Now()
		if err := pprof.Lookup("goroutine").WriteTo(io.Discard, debug); err != nil {
			fail(err.Error())
		}
		return time.Since(start).Seconds() * 1e3
	}
	take()
	times := make([]float64, profiles)
	for i := range times {
		times[i] = take()
	}
	return median(times)
}
