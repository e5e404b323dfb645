package finermoe

// #cgo pkg-config: finermoe
// #include "callbacks.h"
import "C"

import (
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// ProgressFunc hears how far a long call has come: `done` of `total` units (bytes, or tokens of a prompt) of a phase,
// which is named by one or two words in lower case. An error ends the call, whose own error wraps it; a panic ends it
// and goes on behind it. It is called on the goroutine of the call, through C, and so it must not end that goroutine,
// as runtime.Goexit and testing's FailNow do.
type ProgressFunc func(phase string, done, total uint64) error

// LogFunc takes a message for the host's log. It is called on the goroutine of the call that the message is about. Its
// panic goes on behind that call, or behind another one that was running on the same runtime.
type LogFunc func(level LogLevel, message string)

// ExecutorFunc runs one parallel computation: task(i) for each i in [0, n), each once, on any goroutines, and returns
// when all have returned. What it leaves out is run after it, also when it panics, which goes on behind the call as
// with [LogFunc].
type ExecutorFunc func(n int, task func(i int))

// Goroutines is an [ExecutorFunc] that runs the tasks on as many goroutines, the calling one among them.
func Goroutines(n int) ExecutorFunc {
	return func(nTasks int, task func(i int)) {
		var next atomic.Int64
		work := func() {
			for i := int(next.Add(1)) - 1; i < nTasks; i = int(next.Add(1)) - 1 {
				task(i)
			}
		}
		var others sync.WaitGroup
		for range min(n, nTasks) - 1 {
			others.Add(1)
			go func() { defer others.Done(); work() }()
		}
		work()
		others.Wait()
	}
}

// callback is a Go function that C may call. It keeps what the function did besides returning, a panic or an error, for
// the call during which it happened: no panic unwinds through C.
type callback struct {
	progress ProgressFunc
	log      LogFunc
	execute  ExecutorFunc

	mutex    sync.Mutex
	panicked any
	failed   error
}

// registration is what Go objects keep of a callback: C may call it until none of them is left.
type registration struct {
	*callback
	user uintptr // what C gives back with each call
}

func register(c *callback) *registration {
	handle := cgo.NewHandle(c)
	r := &registration{callback: c, user: uintptr(handle)}
	runtime.AddCleanup(r, func(handle cgo.Handle) { handle.Delete() }, handle)
	return r
}

var (
	progressFunction = uintptr(unsafe.Pointer(C.finermoe_go_progress))
	logFunction      = uintptr(unsafe.Pointer(C.finermoe_go_log))
	executorFunction = uintptr(unsafe.Pointer(C.finermoe_go_execute))
)

// nOutcomes is the number of callbacks with something for their call. It is nearly always 0, and then nobody looks.
var nOutcomes atomic.Int64

// guard calls a callback's function, and reports whether it neither panicked nor failed.
func (c *callback) guard(call func() error) (fine bool) {
	defer func() {
		if panicked := recover(); panicked != nil {
			c.leave(panicked, nil)
			fine = false
		}
	}()
	if err := call(); err != nil {
		c.leave(nil, err)
		return false
	}
	return true
}

// hears is the function for progress, unless it was forgotten.
func (c *callback) hears() ProgressFunc {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.progress
}

// forget lets go of the function for progress, and of the object that it may refer to, which refers to this callback.
func (c *callback) forget() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.progress = nil
}

func (c *callback) leave(panicked any, failed error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.panicked == nil && c.failed == nil {
		nOutcomes.Add(1)
		c.panicked, c.failed = panicked, failed
	}
}

func (c *callback) outcome() (panicked any, failed error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.panicked != nil || c.failed != nil {
		nOutcomes.Add(-1)
	}
	panicked, failed = c.panicked, c.failed
	c.panicked, c.failed = nil, nil
	return panicked, failed
}

// settle ends a call: a callback's panic goes on here, and its error becomes the cause of the call's.
func settle(from keeper, err error) error {
	if nOutcomes.Load() == 0 {
		return err
	}
	panicked, failed := from.outcome()
	if panicked != nil {
		panic(panicked)
	}
	if err != nil && failed != nil {
		return because(err, failed)
	}
	return err
}

// outcomeOf takes the outcomes of all callbacks that are kept, and gives the first of each kind.
func outcomeOf(keeps []keeper) (panicked any, failed error) {
	for _, kept := range keeps {
		p, f := kept.outcome()
		if panicked == nil {
			panicked = p
		}
		if failed == nil {
			failed = f
		}
	}
	return panicked, failed
}

//export finermoeGoProgress
func finermoeGoProgress(user C.uintptr_t, phase *C.char, done, total C.uint64_t) C.int32_t {
	c := cgo.Handle(user).Value().(*callback)
	progress := c.hears()
	if progress == nil || c.guard(func() error { return progress(C.GoString(phase), uint64(done), uint64(total)) }) {
		return 0
	}
	return 1
}

//export finermoeGoLog
func finermoeGoLog(user C.uintptr_t, level C.int32_t, message *C.char) {
	c := cgo.Handle(user).Value().(*callback)
	c.guard(func() error { c.log(LogLevel(level), C.GoString(message)); return nil })
}

//export finermoeGoExecute
func finermoeGoExecute(user C.uintptr_t, nTasks C.size_t, task C.finermoe_task_fn, data unsafe.Pointer) {
	c := cgo.Handle(user).Value().(*callback)
	n := int(nTasks)
	started := make([]atomic.Bool, n)
	var running sync.WaitGroup
	var over sync.RWMutex // held for reading by tasks that begin, for writing at the end
	isOver := false
	run := func(i int) {
		over.RLock()
		if isOver || i < 0 || i >= n || started[i].Swap(true) {
			over.RUnlock()
			return
		}
		running.Add(1)
		over.RUnlock()
		defer running.Done()
		C.finermoe_go_run_task(task, data, C.size_t(i))
	}
	c.guard(func() error { c.execute(n, run); return nil })

	// Each task runs exactly once whatever the function did, and none runs any more after this.
	for i := range n {
		run(i)
	}
	over.Lock()
	isOver = true
	over.Unlock()
	running.Wait()
}
