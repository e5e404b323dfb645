package finermoe

import "finermoe.example/finermoe/internal/low"

// Version is the library's version, "MAJOR.MINOR.PATCH".
func Version() string { return low.Version() }

// ABIVersion is the number in the shared library's soname.
func ABIVersion() uint32 { return low.AbiVersion() }

// SystemInfo is what the library finds on this machine, and how it was built: what a bug report needs.
type SystemInfo struct {
	ISA             ISA     // what ISAAuto takes
	Kernels         string  // "portable", "avx2", "avx2-vnni", "avx512" or "amx"
	Compiler        string  // "GCC 12.2.0"
	Build           string  // "release"
	ISAs            uint32  // those that the processor can execute: bits 1 << ISA
	NThreads        int     // threads of a runtime that is not told otherwise
	ProcessorQuota  float64 // processors that the control groups of this process grant; 0: no limit
	MemoryQuota     uint64  // bytes that they grant; 0: no limit
	MemoryAvailable uint64  // bytes that this process could use at this moment
}

// System describes this machine and this build of the library.
func System() (SystemInfo, error) {
	info := low.NewSystemInfo()
	defer low.DeleteSystemInfo(info)
	if err := check(low.SystemGetInfo(info)); err != nil {
		return SystemInfo{}, err
	}
	return SystemInfo{
		ISA:             ISA(info.GetIsa()),
		Kernels:         info.GetKernels(),
		Compiler:        info.GetCompiler(),
		Build:           info.GetBuild(),
		ISAs:            info.GetIsas(),
		NThreads:        int(info.GetNThreads()),
		ProcessorQuota:  info.GetProcessorQuota(),
		MemoryQuota:     info.GetMemoryQuota(),
		MemoryAvailable: info.GetMemoryAvailable(),
	}, nil
}

// DeviceInfo describes a device that models can compute on.
type DeviceInfo struct {
	Kind            DeviceKind
	Name            string // by which it is chosen: "cpu", …
	Description     string // of the hardware
	Version         string // of what computes on it
	Memory          uint64 // bytes that it has
	MemoryAvailable uint64 // of these, free at this moment
	WeightDTypes    uint32 // types of weights that it computes with: bits 1 << DType
	KVDTypes        uint32 // types of KV caches
	CopiesWeights   bool   // into memory of its own, when a model is opened
}

// Devices lists the devices of this machine; the first is the CPU. It opens none of them.
//
// module is the path of a device module, whose devices count too and which stays loaded; "" for libfinermoe_cuda, where it
// is installed.
func Devices(module string) ([]DeviceInfo, error) {
	if err := checkPaths(module); err != nil {
		return nil, err
	}
	count := 0
	if err := check(low.DeviceCount(module, &count)); err != nil {
		return nil, err
	}
	info := low.NewDeviceInfo()
	defer low.DeleteDeviceInfo(info)
	devices := make([]DeviceInfo, count)
	for i := range devices {
		if err := check(low.DeviceGetInfo(module, i, info)); err != nil {
			return nil, err
		}
		devices[i] = DeviceInfo{
			Kind:            DeviceKind(info.GetKind()),
			Name:            info.GetName(),
			Description:     info.GetDescription(),
			Version:         info.GetVersion(),
			Memory:          info.GetMemory(),
			MemoryAvailable: info.GetMemoryAvailable(),
			WeightDTypes:    info.GetWeightDtypes(),
			KVDTypes:        info.GetKvDtypes(),
			CopiesWeights:   info.GetCopiesWeights() != 0,
		}
	}
	return devices, nil
}

// Runtime is worker threads and memory accounts, shared by the models opened with it ([WithRuntime]). It can be used by
// any number of goroutines at once.
type Runtime struct{ object *object[low.Runtime] }

// NewRuntime makes a runtime. The caller closes it; models that were opened with it keep what they need.
func NewRuntime(opts ...RuntimeOption) (*Runtime, error) {
	setup, err := newRuntimeSetup(opts...)
	if err != nil {
		return nil, err
	}
	defer setup.free()
	handle, err := create(func(out *low.Runtime) low.Error { return low.RuntimeCreate(setup.options, out) })
	if err = settle(setup, err); err != nil {
		return nil, err
	}
	return wrapRuntime(handle, setup.keeps), nil
}

func wrapRuntime(handle low.Runtime, keeps []keeper) *Runtime {
	r := &Runtime{}
	r.object = newObject(r, &object[low.Runtime]{name: "runtime", handle: handle, frees: low.RuntimeFree, keeps: keeps})
	return r
}

// Close lets go of the runtime. Models that were opened with it go on. A second call does nothing.
func (r *Runtime) Close() { r.object.close() }

// RuntimeInfo is a runtime's present state.
type RuntimeInfo struct {
	NThreads    int
	ISA         ISA    // the one in use, never ISAAuto
	MemoryLimit uint64 // bytes; 0: none
	MemoryUsed  uint64 // bytes now counted against it
	MemoryPeak  uint64 // the most that was ever counted
	Device      string // the device's name
	UsesBLAS    bool   // a BLAS library computes products here
	BLAS        string // what the library says of itself; "" if none was opened
}

// Info is the runtime's present state.
func (r *Runtime) Info() (RuntimeInfo, error) {
	info := low.NewRuntimeInfo()
	defer low.DeleteRuntimeInfo(info)
	if err := r.object.use(func(h low.Runtime) low.Error { return low.RuntimeGetInfo(h, info) }); err != nil {
		return RuntimeInfo{}, err
	}
	return RuntimeInfo{
		NThreads:    int(info.GetNThreads()),
		ISA:         ISA(info.GetIsa()),
		MemoryLimit: info.GetMemoryLimit(),
		MemoryUsed:  info.GetMemoryUsed(),
		MemoryPeak:  info.GetMemoryPeak(),
		Device:      info.GetDevice(),
		UsesBLAS:    info.GetUsesBlas() != 0,
		BLAS:        info.GetBlas(),
	}, nil
}

// Operation is one operation's part of the steps that were computed since the runtime was made, or its profile reset.
type Operation struct {
	Name    string // "qkv", "attention", "moe_ffn", …
	NCalls  uint64
	Seconds float64
	Bytes   uint64 // of weights or cache that the calls had to read, each once in a call
	MACs    uint64 // multiplications with an addition, of matrix products
}

// Operations is the profile of a runtime that was made with [Profile]; of another it is empty.
func (r *Runtime) Operations() (operations []Operation, err error) {
	operation := low.NewRuntimeOperation()
	defer low.DeleteRuntimeOperation(operation)
	err = r.object.use(func(h low.Runtime) low.Error {
		for i := range low.RuntimeOperationCount(h) {
			if failure := low.RuntimeGetOperation(h, i, operation); failure != 0 {
				return failure
			}
			operations = append(operations, Operation{
				Name:    operation.GetName(),
				NCalls:  operation.GetNCalls(),
				Seconds: operation.GetSeconds(),
				Bytes:   operation.GetBytes(),
				MACs:    operation.GetMacs(),
			})
		}
		return 0
	})
	return operations, err
}

// ResetProfile begins the profile anew.
func (r *Runtime) ResetProfile() error { return r.object.use(low.RuntimeResetProfile) }
