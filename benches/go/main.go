// The peer that is written in Go: runs one case and prints what it measured as one JSON object, as the Rust peers do.
//
// What an operation is, how many of them a batch has, and what is done before the clock starts are the same as in
// src/workload; GOMAXPROCS is the number of workers. Run by `greenprof-benches report`.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"time"
)

var timed = map[string]func(operations int) time.Duration{
	"yield":        yields,
	"spawn-join":   spawnJoin,
	"ping-pong":    pingPong,
	"spsc":         spsc,
	"mpmc":         mpmc,
	"mutex-alone":  mutexAlone,
	"mutex-shared": mutexShared,
	"select":       selectTwo,
	"skynet":       skynet,
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "corpus" {
		listPrograms()
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "corpus" {
		answer(corpus(os.Args[2]))
		return
	}
	if len(os.Args) != 4 {
		fail("usage: peer CASE OPERATIONS BATCHES, peer corpus, or peer corpus PROGRAM")
	}
	operations, batches := number(os.Args[2]), number(os.Args[3])
	var values map[string]float64
	switch name := os.Args[1]; name {
	case "parked":
		values = crowd(operations, batches)
	case "sleepers":
		values = map[string]float64{"p99": sleepers(operations)}
	case "task-profile":
		values = taskProfiles(operations, batches)
	case "block-profile":
		values = offAndOn(operations, batches, runtime.SetBlockProfileRate, pingPong)
	case "mutex-profile":
		fraction := func(rate int) { runtime.SetMutexProfileFraction(rate) }
		values = offAndOn(operations, batches, fraction, mutexShared)
	case "trace-ping-pong":
		values = traced(operations, batches, func(operations int) { pingPong(operations) })
	case "trace-service":
		values = traced(operations, batches, service)
	case "sample-shallow":
		values = sampleCost(2, operations, batches)
	case "sample-deep":
		values = sampleCost(30, operations, batches)
	case "leak-own":
		values = leaks(operations, batches, false)
	case "leak-shared":
		values = leaks(operations, batches, true)
	case "leak-chain":
		values = leakChain(operations, batches)
	default:
		run, known := timed[name]
		if !known {
			fail("the Go peer has no case " + name)
		}
		values = map[string]float64{"time": timeBatches(operations, batches, run)}
	}
	answer(values)
}

func answer(values map[string]float64) {
	if err := json.NewEncoder(os.Stdout).Encode(values); err != nil {
		fail(err.Error())
	}
}

// timeBatches gives the nanoseconds of an operation in the median batch, after a tenth of a batch to warm up.
func timeBatches(operations, batches int, run func(int) time.Duration) float64 {
	run(operations / 10)
	times := make([]float64, batches)
	for i := range times {
		times[i] = each(run(operations), operations)
	}
	return median(times)
}

func each(duration time.Duration, operations int) float64 {
	return float64(duration.Nanoseconds()) / float64(operations)
}

func median(values []float64) float64 {
	sort.Float64s(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// share is the part of total that number index of count does.
func share(total, count, index int) int {
	part := total / count
	if index < total%count {
		part++
	}
	return part
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		fail(text + " is no positive number")
	}
	return n
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
