package finermoe

import (
	"context"
	"math"

	"finermoe.example/finermoe/internal/low"
)

// A RuntimeOption says how to compute. [NewRuntime] takes it, and [Open] for a model with a runtime of its own.
type RuntimeOption interface {
	ModelOption
	applyRuntime(*runtimeSetup) error
}

// A ModelOption says how to open a model.
type ModelOption interface{ applyModel(*modelSetup) error }

// A SessionOption says how a session keeps and computes its tokens. [Config.Plan] takes it too.
type SessionOption interface {
	PlanOption
	applySession(*sessionSetup) error
}

// A PlanOption says what [Config.Plan] plans for.
type PlanOption interface{ applyPlan(*planSetup) error }

// --- The options of a runtime ---

type runtimeSetup struct {
	options low.RuntimeOptions
	keeps   []keeper
}

func newRuntimeSetup(opts ...RuntimeOption) (*runtimeSetup, error) {
	options, err := create(low.RuntimeOptionsCreate)
	if err != nil {
		return nil, err
	}
	setup := &runtimeSetup{options: options}
	for _, opt := range opts {
		if err := opt.applyRuntime(setup); err != nil {
			setup.free()
			return nil, err
		}
	}
	return setup, nil
}

func (s *runtimeSetup) free()                 { low.RuntimeOptionsFree(s.options) }
func (s *runtimeSetup) outcome() (any, error) { return outcomeOf(s.keeps) }

type runtimeOption func(*runtimeSetup) error

func (set runtimeOption) applyRuntime(s *runtimeSetup) error { return set(s) }
func (set runtimeOption) applyModel(s *modelSetup) error     { return s.applyOwnRuntime(set) }

type threads int

func (n threads) applyRuntime(s *runtimeSetup) error {
	count, err := n.count()
	if err != nil {
		return err
	}
	return check(low.RuntimeOptionsSetThreads(s.options, count))
}

func (n threads) applyModel(s *modelSetup) error { return s.applyOwnRuntime(n) }

func (n threads) applyPlan(s *planSetup) error {
	count, err := n.count()
	if err != nil {
		return err
	}
	return check(low.PlanOptionsSetThreads(s.options, count))
}

func (n threads) count() (uint32, error) {
	if n < 0 || int64(n) > math.MaxUint32 {
		return 0, newError(ErrInvalidArgument, "the number of threads is out of range", "0 or more", "another number")
	}
	return uint32(n), nil
}

// Threads is the number of threads that compute, the calling one among them; 0 (default): as many processors as this
// process may use.
func Threads(n int) interface {
	RuntimeOption
	PlanOption
} {
	return threads(n)
}

func (i ISA) applyRuntime(s *runtimeSetup) error {
	return check(low.RuntimeOptionsSetIsa(s.options, int32(i)))
}

func (i ISA) applyModel(s *modelSetup) error { return s.applyOwnRuntime(i) }

// MemoryLimit is the most bytes that models, sessions and their scratch may allocate together; 0 (default): no limit.
func MemoryLimit(bytes uint64) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		return check(low.RuntimeOptionsSetMemoryLimit(s.options, bytes))
	})
}

// Log sends the library's messages to a function.
func Log(sink LogFunc) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		if sink == nil {
			return check(low.RuntimeOptionsSetLog(s.options, 0, 0))
		}
		registered := register(&callback{log: sink})
		s.keeps = append(s.keeps, registered)
		return check(low.RuntimeOptionsSetLog(s.options, logFunction, registered.user))
	})
}

// Executor computes on the host's own goroutines instead of the library's threads. nThreads is how many tasks it can
// run at once. Threads of the library cost less; see [Goroutines].
func Executor(execute ExecutorFunc, nThreads int) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		count, err := threads(nThreads).count()
		if err != nil {
			return err
		}
		if execute == nil {
			return check(low.RuntimeOptionsSetExecutor(s.options, 0, 0, count))
		}
		registered := register(&callback{execute: execute})
		s.keeps = append(s.keeps, registered)
		return check(low.RuntimeOptionsSetExecutor(s.options, executorFunction, registered.user, count))
	})
}

// Profile measures the operations of the models' steps, for [Runtime.Operations].
func Profile(profile bool) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		return check(low.RuntimeOptionsSetProfile(s.options, number(profile)))
	})
}

// Device is the name of the device that models compute on, such as "cuda:0", or "cuda:GPU-" and the beginning of its UUID;
// "" (default): the CPU.
func Device(name string) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		if err := checkPaths(name); err != nil {
			return err
		}
		return check(low.RuntimeOptionsSetDevice(s.options, name))
	})
}

// DeviceModule is the path of a device module, whose devices can be chosen too; "" (default): libfinermoe_cuda, where it is
// installed and a device of it is named.
func DeviceModule(path string) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		if err := checkPaths(path); err != nil {
			return err
		}
		return check(low.RuntimeOptionsSetDeviceModule(s.options, path))
	})
}

// BLAS opens OpenBLAS for the products that it computes faster than the kernels of this processor. path is that of the
// library; "": OpenBLAS as the system finds it.
func BLAS(path string) RuntimeOption {
	return runtimeOption(func(s *runtimeSetup) error {
		if err := checkPaths(path); err != nil {
			return err
		}
		return check(low.RuntimeOptionsSetBlas(s.options, path))
	})
}

// --- The options of a model ---

type modelSetup struct {
	options    low.ModelOptions
	runtime    *Runtime      // of WithRuntime
	ownRuntime *runtimeSetup // of options for a runtime, which the model then gets
	watch      *watch        // of a context
	keeps      []keeper
}

func newModelSetup(opts ...ModelOption) (*modelSetup, error) {
	options, err := create(low.ModelOptionsCreate)
	if err != nil {
		return nil, err
	}
	setup := &modelSetup{options: options}
	for _, opt := range opts {
		if err := opt.applyModel(setup); err != nil {
			setup.free()
			return nil, err
		}
	}
	if err := setup.makeOwnRuntime(); err != nil {
		setup.free()
		return nil, err
	}
	return setup, nil
}

func (s *modelSetup) free() {
	if s.watch != nil {
		s.watch.stop()
	}
	if s.ownRuntime != nil {
		s.ownRuntime.free()
	}
	low.ModelOptionsFree(s.options)
}

func (s *modelSetup) outcome() (any, error) { return outcomeOf(s.keeps) }

func (s *modelSetup) applyOwnRuntime(opt RuntimeOption) error {
	if s.ownRuntime == nil {
		setup, err := newRuntimeSetup()
		if err != nil {
			return err
		}
		s.ownRuntime = setup
	}
	return opt.applyRuntime(s.ownRuntime)
}

func (s *modelSetup) makeOwnRuntime() error {
	if s.ownRuntime == nil {
		return nil
	}
	if s.runtime != nil {
		return newError(ErrInvalidArgument, "WithRuntime and options of a runtime for one model", "one of the two", "both")
	}
	s.keeps = append(s.keeps, s.ownRuntime.keeps...)
	runtime, err := create(func(out *low.Runtime) low.Error { return low.RuntimeCreate(s.ownRuntime.options, out) })
	if err != nil {
		return err
	}
	defer low.RuntimeFree(runtime)
	return check(low.ModelOptionsSetRuntime(s.options, runtime))
}

type modelOption func(*modelSetup) error

func (set modelOption) applyModel(s *modelSetup) error { return set(s) }

type withRuntime struct{ runtime *Runtime }

func (w withRuntime) applyModel(s *modelSetup) error {
	s.runtime = w.runtime
	s.keeps = append(s.keeps, w.runtime.object)
	return w.runtime.object.use(func(h low.Runtime) low.Error { return low.ModelOptionsSetRuntime(s.options, h) })
}

func (w withRuntime) applyPlan(s *planSetup) error {
	return w.runtime.object.use(func(h low.Runtime) low.Error { return low.PlanOptionsSetRuntime(s.options, h) })
}

// WithRuntime opens a model on a runtime that it shares with others, or plans for the threads of one. A model takes
// either this or options of a runtime of its own.
func WithRuntime(runtime *Runtime) interface {
	ModelOption
	PlanOption
} {
	return withRuntime{runtime}
}

// WithContext ends the opening of a model when the context ends.
func WithContext(ctx context.Context) ModelOption {
	return modelOption(func(s *modelSetup) error {
		if s.watch != nil {
			s.watch.stop()
		}
		watch, err := watchContext(ctx)
		if err != nil {
			return err
		}
		s.watch = watch
		return check(low.ModelOptionsSetCancel(s.options, watch.cancel))
	})
}

// CopyWeights reads the weights into memory, so that nothing can happen to the files afterwards. By default they are
// used in place, from a mapping.
func CopyWeights(copies bool) ModelOption {
	return modelOption(func(s *modelSetup) error {
		return check(low.ModelOptionsSetCopy(s.options, number(copies)))
	})
}

// VerifyWeights reads every weight once and refuses NaN and infinity.
func VerifyWeights(verify bool) ModelOption {
	return modelOption(func(s *modelSetup) error {
		return check(low.ModelOptionsSetVerify(s.options, number(verify)))
	})
}

func (l Lock) applyModel(s *modelSetup) error {
	return check(low.ModelOptionsSetLock(s.options, int32(l)))
}

// ExpertBudget is the most bytes of mapped routed experts that are in memory; 0 (default): no limit but the system's.
func ExpertBudget(bytes uint64) ModelOption {
	return modelOption(func(s *modelSetup) error {
		return check(low.ModelOptionsSetExpertBudget(s.options, bytes))
	})
}

func (p Prefetch) applyModel(s *modelSetup) error {
	return check(low.ModelOptionsSetPrefetch(s.options, int32(p)))
}

// DeviceWeights is the most bytes that weights may take of the runtime's device, as a [Plan] says; 0 (default): no limit.
func DeviceWeights(bytes uint64) ModelOption {
	return modelOption(func(s *modelSetup) error {
		return check(low.ModelOptionsSetDeviceWeights(s.options, bytes))
	})
}

// ExpertCache is how many bytes of the runtime's device, beside [DeviceWeights], chosen experts that are not there are
// fetched into; 0 (default): none are.
func ExpertCache(bytes uint64) ModelOption {
	return modelOption(func(s *modelSetup) error {
		return check(low.ModelOptionsSetExpertCache(s.options, bytes))
	})
}

// ExpertDevice is the name of the device that holds and computes the routed experts, or what [DeviceWeights] leaves no
// room for; "" (default): the runtime's, or the CPU.
func ExpertDevice(name string) ModelOption {
	return modelOption(func(s *modelSetup) error {
		if err := checkPaths(name); err != nil {
			return err
		}
		return check(low.ModelOptionsSetExpertDevice(s.options, name))
	})
}

// --- The options of a session ---

type sessionSetup struct {
	options  low.SessionOptions
	progress *registration
}

func newSessionSetup(opts ...SessionOption) (*sessionSetup, error) {
	options, err := create(low.SessionOptionsCreate)
	if err != nil {
		return nil, err
	}
	setup := &sessionSetup{options: options}
	for _, opt := range opts {
		if err := opt.applySession(setup); err != nil {
			setup.free()
			return nil, err
		}
	}
	return setup, nil
}

func (s *sessionSetup) free() { low.SessionOptionsFree(s.options) }

type sessionOption func(*sessionSetup) error

func (set sessionOption) applySession(s *sessionSetup) error { return set(s) }
func (set sessionOption) applyPlan(s *planSetup) error       { return set(s.session) }

// ContextLength is the most tokens that a session can hold; 0 (default): the smaller of the model's positions and 4096.
func ContextLength(nTokens int) SessionOption {
	return sessionOption(func(s *sessionSetup) error {
		return check(low.SessionOptionsSetContextLength(s.options, nTokens))
	})
}

// KVDType is how the KV cache stores keys and values: F32 (default), F16, BF16 or Q8.
func KVDType(dtype DType) SessionOption {
	return sessionOption(func(s *sessionSetup) error {
		return check(low.SessionOptionsSetKvDtype(s.options, int32(dtype)))
	})
}

func (p Precision) applySession(s *sessionSetup) error {
	return check(low.SessionOptionsSetPrecision(s.options, int32(p)))
}

func (p Precision) applyPlan(s *planSetup) error { return p.applySession(s.session) }

// Chunk is the most tokens that are computed in one pass when a long prompt is appended; 0 (default): 512.
func Chunk(nTokens int) SessionOption {
	return sessionOption(func(s *sessionSetup) error {
		return check(low.SessionOptionsSetChunk(s.options, nTokens))
	})
}

func (h Hidden) applySession(s *sessionSetup) error {
	return check(low.SessionOptionsSetHidden(s.options, int32(h)))
}

func (h Hidden) applyPlan(s *planSetup) error { return h.applySession(s.session) }

// --- Progress, of several kinds of calls ---

type progress struct{ hear ProgressFunc }

// with gives a function for progress to a setter, and keeps it registered.
func (p progress) with(set func(function, user uintptr) error) (*registration, error) {
	if p.hear == nil {
		return nil, set(0, 0)
	}
	registered := register(&callback{progress: p.hear})
	return registered, set(progressFunction, registered.user)
}

func (p progress) applyModel(s *modelSetup) error {
	registered, err := p.with(func(function, user uintptr) error {
		return check(low.ModelOptionsSetProgress(s.options, function, user))
	})
	if registered != nil {
		s.keeps = append(s.keeps, registered)
	}
	return err
}

func (p progress) applySession(s *sessionSetup) (err error) {
	s.progress, err = p.with(func(function, user uintptr) error {
		return check(low.SessionOptionsSetProgress(s.options, function, user))
	})
	return err
}

func (p progress) applyPlan(*planSetup) error { return nil }

func (p progress) applyWriter(s *writerSetup) (err error) {
	s.progress, err = p.with(func(function, user uintptr) error {
		return check(low.WriterOptionsSetProgress(s.options, function, user))
	})
	return err
}

func (p progress) applyUpcycle(s *upcycleSetup) error   { return p.applyWriter(s.writer) }
func (p progress) applyQuantize(s *quantizeSetup) error { return p.applyWriter(s.writer) }

// Progress tells a function how far a call has come: the opening of a model, the long prompts of a session (also in a
// batch), or a writer.
func Progress(hear ProgressFunc) interface {
	ModelOption
	SessionOption
	WriterOption
} {
	return progress{hear}
}
