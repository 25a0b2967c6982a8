package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"
)

// The corpus of demos/src/leaks as far as it has been written for Go: the same ids, written anew from the same descriptions. A program
// starts goroutines with leaks, which are never woken, and with held, which can be, and will be by the function that it
// returns. Bad interleavings are forced, with waits until somebody is blocked.
//
// To add one: write it, and name it in programs, with the id that the Rust program has.

// scene is what a program is given.
type scene struct {
	expected, others int
	all              sync.WaitGroup
}

// program starts everything, and gives what wakes those that are held; nil if there are none.
type program func(*scene) func()

var programs = map[string]program{
	"simple/chan_recv":       chanRecv,
	"simple/chan_send":       chanSend,
	"simple/mutex_heap":      mutexHeap,
	"simple/nil_recv":        nilRecv,
	"simple/nil_send":        nilSend,
	"simple/rwmutex_lock":    rwmutexLock,
	"simple/select_no_cases": selectNoCases,
	"simple/no_leak_global":  noLeakGlobal,

	"patterns/double_send":               doubleSend,
	"patterns/early_return":              earlyReturn,
	"patterns/method_contract_violation": methodContract,
	"patterns/timeout":                   timeoutPattern,

	"goker/cockroach_18101":  cockroach18101,
	"goker/cockroach_2448":   cockroach2448,
	"goker/cockroach_25456":  cockroach25456,
	"goker/cockroach_35073":  cockroach35073,
	"goker/cockroach_6181":   cockroach6181,
	"goker/cockroach_7504":   cockroach7504,
	"goker/etcd_5509":        etcd5509,
	"goker/etcd_6708":        etcd6708,
	"goker/etcd_6857":        etcd6857,
	"goker/etcd_6873":        etcd6873,
	"goker/grpc_1275":        grpc1275,
	"goker/grpc_795":         grpc795,
	"goker/hugo_5379":        hugo5379,
	"goker/kubernetes_25331": kubernetes25331,
	"goker/kubernetes_26980": kubernetes26980,
	"goker/kubernetes_38669": kubernetes38669,
	"goker/kubernetes_5316":  kubernetes5316,
	"goker/kubernetes_70277": kubernetes70277,
	"goker/moby_17176":       moby17176,
	"goker/moby_25384":       moby25384,
	"goker/moby_30408":       moby30408,
	"goker/moby_36114":       moby36114,
	"goker/syncthing_4829":   syncthing4829,

	"sound/static":            heldByStatic,
	"sound/static_map":        heldByStaticMap,
	"sound/static_raw_lock":   heldByStaticLock,
	"sound/sleeper":           heldBySleeper,
	"sound/after_func":        heldByTimer,
	"sound/buffered":          heldInBuffer,
	"sound/chain":             heldByChain,
	"sound/cancel":            heldByContext,
	"sound/static_wait_group": heldByWaitGroup,
	"sound/static_condvar":    heldByCond,
}

const leakLabel = "leaks"

// leaks starts a goroutine that is leaked in the end.
func (s *scene) leaks(body func()) {
	s.expected++
	s.start("yes", body)
}

// held starts one that is blocked when it is looked at, and can be woken.
func (s *scene) held(body func()) {
	s.others++
	s.all.Add(1)
	s.start("no", func() {
		defer s.all.Done()
		body()
	})
}

// ends starts one that ends by itself.
func (s *scene) ends(body func()) {
	s.start("no", body)
}

func (s *scene) start(label string, body func()) {
	go func() {
		pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(leakLabel, label)))
		body()
	}()
}

// blocked waits until so many goroutines that leak are there, and gives them time to block. Programs that force an order call it
// between its steps.
func (s *scene) blocked(count int) {
	s.reach(count, -1)
	time.Sleep(moment)
}

const (
	patience = 3 * time.Second
	// Longer than a goroutine needs that has nothing to do but to block.
	moment = 20 * time.Millisecond
)

// reach waits until so many goroutines are there that leak, and so many others.
func (s *scene) reach(leaked, others int) {
	var counts map[string]int
	for start := time.Now(); time.Since(start) < patience; time.Sleep(time.Millisecond) {
		counts = counted("goroutine")
		if counts["yes"] == leaked && (others < 0 || counts["no"] == others) {
			return
		}
	}
	fail(fmt.Sprintf("the program has %v goroutines, not %d that leak and %d others", counts, leaked, others))
}

var group = regexp.MustCompile(`^(\d+) @`)
var labelled = regexp.MustCompile(`"` + leakLabel + `":"(\w+)"`)

// counted gives how many goroutines of each label a profile has.
func counted(profile string) map[string]int {
	var text strings.Builder
	if err := pprof.Lookup(profile).WriteTo(&text, 1); err != nil {
		fail(err.Error())
	}
	counts := map[string]int{}
	count := 0
	for _, line := range strings.Split(text.String(), "\n") {
		if found := group.FindStringSubmatch(line); found != nil {
			count = number(found[1])
			counts["all"] += count
		} else if found := labelled.FindStringSubmatch(line); found != nil {
			counts[found[1]] += count
		}
	}
	return counts
}

// settled waits until everything that should be blocked is, and has been for a moment.
func (s *scene) settled() {
	s.reach(s.expected, s.others)
	time.Sleep(moment)
	s.reach(s.expected, s.others)
}

// play runs a program; when it returns, no frame of it is left.
//
//go:noinline
func play(run program, s *scene) func() {
	return run(s)
}

// corpus runs one program of the corpus and looks at it with Go's detector.
func corpus(name string) map[string]float64 {
	run, known := programs[name]
	if !known {
		fail("there is no program " + name)
	}
	profile := leakProfile()
	s := &scene{}
	wake := play(run, s)
	s.settled()
	start := time.Now()
	if err := profile.WriteTo(new(strings.Builder), 0); err != nil {
		fail(err.Error())
	}
	took := time.Since(start)
	found := counted("goroutineleak")
	if wake != nil {
		wake()
		s.all.Wait()
	}
	runtime.KeepAlive(s)
	return map[string]float64{
		"expected": float64(s.expected),
		"found":    float64(found["yes"]),
		"false":    float64(found["all"] - found["yes"]),
		"micros":   float64(took.Nanoseconds()) / 1e3,
	}
}

// listPrograms prints their ids, a line each.
func listPrograms() {
	for name := range programs {
		fmt.Fprintln(os.Stdout, name)
	}
}
