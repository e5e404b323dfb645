package finermoe

import "finermoe.example/finermoe/internal/low"

// ConfigInfo is the shape of a model, in the terms of the paper (arXiv 2603.13364) and of config.json.
type ConfigInfo struct {
	DType                 DType  // of the bulk of the weights
	ModelType             string // "finer_moe", "qwen2", "qwen2_moe"
	HiddenSize            int    // h
	IntermediateSize      int    // H: width of a dense FFN
	NLayers               int
	NMoELayers            int
	NHeads                int
	NKVHeads              int
	HeadSize              int
	VocabSize             int // rows of the embedding; may exceed the tokenizer's ids
	MaxPositions          int
	GranularityInter      int // G_I; 0 in a dense model, as all of the next eight
	ExpansionInter        int // R_I
	GranularityOutput     int // G_O
	ExpansionOutput       int // R_O
	NExperts              int // N = G_O R_O G_I R_I
	NExpertsPerToken      int // G_O T_I
	ExpertWidth           int // H_e
	ExpertOutputWidth     int // h_e = h / G_O
	SharedExpertWidth     int // 0: no shared expert
	HasConcatProj         bool
	HasSeparateRouter     bool
	NormTopKProb          bool
	TiedEmbeddings        bool
	RMSNormEps            float64
	RopeTheta             float64
	ParametersTotal       uint64 // in the checkpoint: embeddings and head counted as stored
	ParametersActive      uint64 // of these, the ones that one token uses
	RopeScaling           string // "none", "linear", "yarn", "llama3"
	RopeFactor            float64
	RopeOriginalPositions int
	RopeAttentionFactor   float64
	SlidingWindow         int // positions that a token sees in some layers, itself included; 0: all layers see all
	NSlidingLayers        int
}

// Config is a checked configuration: everything that can be known without weights. It can be used by any number of
// goroutines at once.
type Config struct {
	ConfigInfo
	object *object[low.Config]
}

// OpenConfig reads the configuration of a model directory, a config.json, or a single-file model.
func OpenConfig(path string) (*Config, error) {
	if err := checkPaths(path); err != nil {
		return nil, err
	}
	return newConfig(nil, func(out *low.Config) low.Error { return low.ConfigOpen(path, out) })
}

// ParseConfig reads the text of a config.json.
func ParseConfig(json []byte) (*Config, error) {
	return newConfig(nil, func(out *low.Config) low.Error { return low.ConfigOpenMemory(string(json), out) })
}

func newConfig(keeps []keeper, open func(*low.Config) low.Error) (*Config, error) {
	handle, err := create(open)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	c.object = newObject(c, &object[low.Config]{name: "configuration", handle: handle, frees: low.ConfigFree,
		keeps: keeps})
	info := low.NewConfigInfo()
	defer low.DeleteConfigInfo(info)
	if err := c.object.use(func(h low.Config) low.Error { return low.ConfigGetInfo(h, info) }); err != nil {
		return nil, err
	}
	c.ConfigInfo = readConfigInfo(info)
	return c, nil
}

func readConfigInfo(info low.ConfigInfo) ConfigInfo {
	return ConfigInfo{
		DType:                 DType(info.GetDtype()),
		ModelType:             info.GetModelType(),
		HiddenSize:            info.GetHiddenSize(),
		IntermediateSize:      info.GetIntermediateSize(),
		NLayers:               info.GetNLayers(),
		NMoELayers:            info.GetNMoeLayers(),
		NHeads:                info.GetNHeads(),
		NKVHeads:              info.GetNKvHeads(),
		HeadSize:              info.GetHeadSize(),
		VocabSize:             info.GetVocabSize(),
		MaxPositions:          info.GetMaxPositions(),
		GranularityInter:      info.GetGranularityInter(),
		ExpansionInter:        info.GetExpansionInter(),
		GranularityOutput:     info.GetGranularityOutput(),
		ExpansionOutput:       info.GetExpansionOutput(),
		NExperts:              info.GetNExperts(),
		NExpertsPerToken:      info.GetNExpertsPerToken(),
		ExpertWidth:           info.GetExpertWidth(),
		ExpertOutputWidth:     info.GetExpertOutputWidth(),
		SharedExpertWidth:     info.GetSharedExpertWidth(),
		HasConcatProj:         info.GetHasConcatProj() != 0,
		HasSeparateRouter:     info.GetHasSeparateRouter() != 0,
		NormTopKProb:          info.GetNormTopkProb() != 0,
		TiedEmbeddings:        info.GetTiedEmbeddings() != 0,
		RMSNormEps:            info.GetRmsNormEps(),
		RopeTheta:             info.GetRopeTheta(),
		ParametersTotal:       info.GetParametersTotal(),
		ParametersActive:      info.GetParametersActive(),
		RopeScaling:           info.GetRopeScaling(),
		RopeFactor:            info.GetRopeFactor(),
		RopeOriginalPositions: info.GetRopeOriginalPositions(),
		RopeAttentionFactor:   info.GetRopeAttentionFactor(),
		SlidingWindow:         info.GetSlidingWindow(),
		NSlidingLayers:        info.GetNSlidingLayers(),
	}
}

// Close lets go of the configuration; its fields stay. A second call does nothing.
func (c *Config) Close() { c.object.close() }

// JSON is the config.json that the configuration was read from, every byte as it stands there.
func (c *Config) JSON() (json []byte, err error) {
	err = c.object.use(func(h low.Config) (failure low.Error) {
		json, failure = fill(4096, func(buffer []byte, capacity int, needed *int) low.Error {
			return low.ConfigGetJson(h, buffer, capacity, needed)
		})
		return failure
	})
	return json, err
}

// Plan is the bytes that a model and its sessions take, before anything is loaded. Weights are mapped, not allocated,
// except those that a device copies.
type Plan struct {
	WeightsEmbeddings uint64 // embedding and, where it is not tied, head
	WeightsAttention  uint64 // with biases, and all norms
	WeightsDense      uint64 // FFNs of dense layers
	WeightsShared     uint64 // shared experts, their gates, and concat projections
	WeightsRouted     uint64 // routed experts
	WeightsRouter     uint64 // router matrices, concat gates included
	WeightsTotal      uint64
	KVCache           uint64 // of all sessions
	Scratch           uint64 // activations of the largest step, on all threads
	AllocatedTotal    uint64 // KVCache, Scratch, DeviceWeights and ExpertCache: what a memory limit is compared with
	BytesPerToken     uint64 // weight bytes that decoding one token reads
	WeightsEveryToken uint64 // the weights that every token reads, which should stay in memory
	MemoryAvailable   uint64 // what this process could use at this moment

	// Of the device planned for: what was given, or all it has. 0 for one that uses the machine's memory, as are the
	// next six, and the last three.
	DeviceMemory        uint64
	DeviceWeights       uint64 // copies on the device, for [DeviceWeights]
	DeviceTotal         uint64 // these, ExpertCache, its KV caches and scratch; more than DeviceMemory if not even one layer fits
	DeviceLayers        uint64 // layers on the device, from the last; the CPU computes the others
	DeviceMoELayers     uint64 // of these, MoE layers whose routed experts are there too, from the last
	DeviceRouted        uint64 // of WeightsRouted, the experts of these MoE layers
	DeviceBytesPerToken uint64 // of BytesPerToken, what the device reads, fetched experts too; the CPU reads the rest
	HostWeights         uint64 // of WeightsTotal, what is used or fetched where it is mapped

	ExpertCache          uint64 // bytes of the device for experts that are fetched, in whole slots; 0 if none is
	ExpertCacheSlots     uint64 // experts that it holds
	FetchedBytesPerToken uint64 // what decoding one token copies to the device, if experts are chosen evenly
}

type planSetup struct {
	options low.PlanOptions
	session *sessionSetup
}

type planOption func(*planSetup) error

func (set planOption) applyPlan(s *planSetup) error { return set(s) }

// Sessions is the number of sessions that live at once, for a plan; 1 by default.
func Sessions(n int) PlanOption {
	return planOption(func(s *planSetup) error { return check(low.PlanOptionsSetSessions(s.options, n)) })
}

// PlanDevice plans for a device, which need not be here, such as "cuda:0", and for so many bytes of its memory; 0: all it
// has. The module is the shared library that has it; "": it is found.
func PlanDevice(module, name string, memory uint64) PlanOption {
	return planOption(func(s *planSetup) error {
		if err := checkPaths(module, name); err != nil {
			return err
		}
		return check(low.PlanOptionsSetDevice(s.options, module, name, memory))
	})
}

// PlanExpertCache is how many bytes of the device's memory chosen experts that are not there are fetched into, as
// [ExpertCache] has it; 0 (default): none are.
func PlanExpertCache(bytes uint64) PlanOption {
	return planOption(func(s *planSetup) error { return check(low.PlanOptionsSetExpertCache(s.options, bytes)) })
}

// Plan says what memory the model takes: with [Sessions], [Threads] or [WithRuntime], [PlanDevice], [PlanExpertCache], and the options of a
// session.
func (c *Config) Plan(opts ...PlanOption) (Plan, error) {
	options, err := create(low.PlanOptionsCreate)
	if err != nil {
		return Plan{}, err
	}
	defer low.PlanOptionsFree(options)
	session, err := newSessionSetup()
	if err != nil {
		return Plan{}, err
	}
	defer session.free()
	setup := &planSetup{options, session}
	for _, opt := range opts {
		if err := opt.applyPlan(setup); err != nil {
			return Plan{}, err
		}
	}
	if err := check(low.PlanOptionsSetSession(options, session.options)); err != nil {
		return Plan{}, err
	}
	plan := low.NewPlan()
	defer low.DeletePlan(plan)
	if err := c.object.use(func(h low.Config) low.Error { return low.PlanCompute(h, options, plan) }); err != nil {
		return Plan{}, err
	}
	return Plan{
		WeightsEmbeddings: plan.GetWeightsEmbeddings(),
		WeightsAttention:  plan.GetWeightsAttention(),
		WeightsDense:      plan.GetWeightsDense(),
		WeightsShared:     plan.GetWeightsShared(),
		WeightsRouted:     plan.GetWeightsRouted(),
		WeightsRouter:     plan.GetWeightsRouter(),
		WeightsTotal:      plan.GetWeightsTotal(),
		KVCache:           plan.GetKvCache(),
		Scratch:           plan.GetScratch(),
		AllocatedTotal:    plan.GetAllocatedTotal(),
		BytesPerToken:     plan.GetBytesPerToken(),
		WeightsEveryToken: plan.GetWeightsEveryToken(),
		MemoryAvailable:   plan.GetMemoryAvailable(),

		DeviceMemory:        plan.GetDeviceMemory(),
		DeviceWeights:       plan.GetDeviceWeights(),
		DeviceTotal:         plan.GetDeviceTotal(),
		DeviceLayers:        plan.GetDeviceLayers(),
		DeviceMoELayers:     plan.GetDeviceMoeLayers(),
		DeviceRouted:        plan.GetDeviceRouted(),
		DeviceBytesPerToken: plan.GetDeviceBytesPerToken(),
		HostWeights:         plan.GetHostWeights(),

		ExpertCache:          plan.GetExpertCache(),
		ExpertCacheSlots:     plan.GetExpertCacheSlots(),
		FetchedBytesPerToken: plan.GetFetchedBytesPerToken(),
	}, nil
}
