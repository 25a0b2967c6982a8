package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
	"unsafe"
)

// What a sample of a CPU profile costs: see src/signals.rs.

// info is what a queued signal carries, as the kernel lays it out.
type info struct {
	signal, err, code, _ int32
	source, overrun      int32
	value                uintptr
	_                    [12]uint64
}

const (
	siQueue = -1
	// As in Rust. The buffer, of 2^17 words, has room for all batches of a sample, so its reader need not have come.
	pause = 50 * time.Millisecond
)

//go:noinline
func descend(depth int, atDepth func()) int {
	if depth <= 1 {
		atDepth()
		return 0
	}
	return descend(depth-1, atDepth) + 1
}

// sampleCost gives the nanoseconds of CPU time of a signal, in the median batch.
func sampleCost(depth, signals, batches int) map[string]float64 {
	runtime.LockOSThread()
	var file bytes.Buffer
	if err := pprof.StartCPUProfile(&file); err != nil {
		fail(err.Error())
	}
	process, thread := os.Getpid(), syscall.Gettid()
	sent := info{signal: int32(syscall.SIGPROF), code: siQueue}
	batch := func(count int) float64 {
		var took int64
		descend(depth, func() {
			start := threadTime()
			for range count {
				_, _, failed := syscall.RawSyscall6(syscall.SYS_RT_TGSIGQUEUEINFO, uintptr(process), uintptr(thread),
					uintptr(syscall.SIGPROF), uintptr(unsafe.Pointer(&sent)), 0, 0)
				if failed != 0 {
					fail(failed.Error())
				}
			}
			took = threadTime() - start
		})
		time.Sleep(pause)
		return float64(took) / float64(count)
	}
	batch((signals + 9) / 10)
	times := make([]float64, batches)
	for i := range times {
		times[i] = batch(signals)
	}
	pprof.StopCPUProfile()
	return map[string]float64{"time": median(times)}
}

// threadTime is the CPU time of the calling thread.
func threadTime() int64 {
	const clockThreadCPUTime = 3
	var now syscall.Timespec
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPUTime, uintptr(unsafe.Pointer(&now)), 0)
	if failed != 0 {
		fail(failed.Error())
	}
	return now.Nano()
}
