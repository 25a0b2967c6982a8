package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// crowd runs several waves of goroutines that all wait on one channel: see src/workload/crowd.rs.
func crowd(tasks, waves int) map[string]float64 {
	waves = max(waves, 2)
	spawns, wakes := make([]float64, waves), make([]float64, waves)
	var grown int
	for i := range waves {
		spawn, wake, resident := wave(tasks)
		spawns[i], wakes[i] = each(spawn, tasks), each(wake, tasks)
		if i == 0 {
			grown = resident
		}
	}
	return map[string]float64{
		"fresh":    spawns[0],
		"recycled": median(spawns[1:]),
		"wake":     median(wakes),
		"resident": float64(grown) / float64(tasks),
	}
}

func wave(tasks int) (spawn, wake time.Duration, grown int) {
	gate := make(chan struct{})
	var arrived, woken sync.WaitGroup
	arrived.Add(tasks)
	woken.Add(tasks)
	before := resident()
	start := time.Now()
	for range tasks {
		go func() {
			arrived.Done()
			<-gate
			woken.Done()
		}()
	}
	arrived.Wait()
	spawn = time.Since(start)
	grown = resident() - before
	start = time.Now()
	close(gate)
	woken.Wait()
	wake = time.Since(start)
	for runtime.NumGoroutine() > 1 {
		time.Sleep(time.Millisecond)
	}
	return
}

// resident is the number of bytes of the process that are in memory.
func resident() int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		fail(err.Error())
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		fail(err.Error())
	}
	return pages * 4096
}
