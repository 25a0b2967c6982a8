package main

import "time"

// offAndOn runs each batch with a profile off and with all recorded, in changing order, and gives the nanoseconds of an
// operation in the median batch of each, and the median difference of a pair.
func offAndOn(operations, batches int, setRate func(int), run func(int) time.Duration) map[string]float64 {
	measure := func(rate int) float64 {
		setRate(rate)
		return each(run(operations), operations)
	}
	measure(0)
	measure(1)
	var off, on, added []float64
	for batch := range batches {
		first := batch % 2
		times := [2]float64{}
		times[first] = measure(first)
		times[1-first] = measure(1 - first)
		off = append(off, times[0])
		on = append(on, times[1])
		added = append(added, times[1]-times[0])
	}
	return map[string]float64{"off": median(off), "on": median(on), "added": median(added)}
}
