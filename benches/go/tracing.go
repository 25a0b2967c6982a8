package main

import (
	"encoding/binary"
	"runtime/trace"
	"syscall"
	"time"
)

// What Go's execution tracer costs; src/workload/tracing.rs measures the same of ours.

const (
	requests = 16
	half     = 5 * time.Microsecond
)

// service: an operation is a request, a goroutine that computes for 5 us, asks another one, and computes for 5 us again.
func service(operations int) {
	questions := make(chan chan uint64, 64)
	ended := make(chan bool)
	go func() {
		for answer := range questions {
			answer <- 42
		}
		close(ended)
	}()
	for left := operations; left > 0; {
		now := min(left, requests)
		results := make([]chan uint64, now)
		for request := range now {
			result := make(chan uint64, 1)
			results[request] = result
			go func() {
				first := compute(uint64(left^request), length())
				answer := make(chan uint64)
				questions <- answer
				result <- first ^ <-answer ^ compute(uint64(request), length())
			}()
		}
		for _, result := range results {
			sink ^= <-result
		}
		left -= now
	}
	close(questions)
	<-ended
}

var (
	sink   uint64
	needed int
)

// compute does multiplications, each of which needs the one before.
func compute(seed uint64, length int) uint64 {
	x := seed | 1
	for i := range length {
		x = x*0x9e3779b97f4a7c15 ^ uint64(i)
	}
	return x
}

func length() int {
	return needed
}

// calibrate finds how many multiplications take half of a request's time.
func calibrate() {
	const many = 1_000_000
	took := time.Hour
	for seed := range 9 {
		start := time.Now()
		sink ^= compute(uint64(seed), many)
		took = min(took, time.Since(start))
	}
	needed = int(many * half.Seconds() / took.Seconds())
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err.Error())
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// kept is a trace in memory: its events are counted when the clock does not run any more.
type kept struct {
	bytes []byte
}

func (k *kept) Write(bytes []byte) (int, error) {
	k.bytes = append(k.bytes, bytes...)
	return len(bytes), nil
}

// forgetting takes a trace without keeping it.
type forgetting struct{}

func (forgetting) Write(bytes []byte) (int, error) {
	return len(bytes), nil
}

// traced runs each batch with tracing and without, in changing order, and gives the medians of the pairs. Events and bytes are those
// of one more batch, which is not timed.
func traced(operations, batches int, run func(int)) map[string]float64 {
	calibrate()
	var whole kept
	if err := trace.Start(&whole); err != nil {
		fail(err.Error())
	}
	run(operations)
	trace.Stop()
	events := float64(countEvents(whole.bytes))
	size := float64(len(whole.bytes))
	whole.bytes = nil
	sample := func(on bool) float64 {
		if on {
			if err := trace.Start(forgetting{}); err != nil {
				fail(err.Error())
			}
		}
		before := cpu()
		run(operations)
		if on {
			trace.Stop()
		}
		return float64((cpu() - before).Nanoseconds())
	}
	var off, on, cost, event []float64
	for batch := range batches {
		times := [2]float64{}
		first := batch % 2
		times[first] = sample(first == 1)
		times[1-first] = sample(first == 0)
		off = append(off, times[0]/float64(operations))
		on = append(on, times[1]/float64(operations))
		cost = append(cost, times[1]/times[0])
		event = append(event, (times[1]-times[0])/events)
	}
	return map[string]float64{
		"off": median(off), "on": median(on), "cost": median(cost), "event": median(event), "bytes": size / events,
	}
}

// arguments of the events that have some, besides the time.
var arguments = map[byte]int{
	9: 2, 10: 2, 12: 3, 13: 2, 14: 3, 15: 1, 16: 2, 19: 2, 20: 2, 21: 3, 22: 2, 25: 3, 26: 2, 28: 1, 29: 2, 30: 1, 31: 1, 32: 1,
	33: 2, 34: 1, 35: 1, 37: 1, 38: 1, 39: 1, 40: 4, 41: 2, 42: 3, 43: 3, 44: 4, 45: 2, 46: 2, 47: 3, 48: 4,
}

// countEvents counts what is in the batches of events, and not in those of tables.
func countEvents(bytes []byte) int {
	const header, endOfGeneration = 16, 52
	number := func() uint64 {
		value, size := binary.Uvarint(bytes)
		if size <= 0 {
			fail("the trace is not understood")
		}
		bytes = bytes[size:]
		return value
	}
	count := 0
	for bytes = bytes[header:]; len(bytes) > 0; {
		kind := bytes[0]
		bytes = bytes[1:]
		if kind == endOfGeneration {
			continue
		}
		number()
		number()
		number()
		size := int(number())
		rest := bytes[size:]
		bytes = bytes[:size]
		isTable := size == 0 || (bytes[0] >= 2 && bytes[0] <= 8) || bytes[0] >= 49
		for !isTable && len(bytes) > 0 {
			kind := bytes[0]
			bytes = bytes[1:]
			for range arguments[kind] + 1 {
				number()
			}
			count++
		}
		bytes = rest
	}
	return count
}
