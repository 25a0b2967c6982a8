package main

import (
	"slices"
	"sync"
	"time"
)

const (
	shortest = 1_000
	longest  = 50_000
)

// sleepers gives the 99th percentile, in milliseconds, of how much longer goroutines slept than they asked for. They are
// started in a burst.
func sleepers(count int) float64 {
	late := make([]int64, count)
	var done sync.WaitGroup
	done.Add(count)
	state := uint64(1)
	for index := range count {
		// The same durations as in src/workload/sleepers.rs.
		state = state*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407
		duration := time.Duration(shortest+(state>>33)%(longest-shortest+1)) * time.Microsecond
		go func() {
			start := time.Now()
			time.Sleep(duration)
			late[index] = (time.Since(start) - duration).Nanoseconds()
			done.Done()
		}()
	}
	done.Wait()
	slices.Sort(late)
	rank := max((count*99+99)/100, 1)
	return float64(late[rank-1]) / 1e6
}
