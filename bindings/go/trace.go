package finermoe

import "finermoe.example/finermoe/internal/low"

// Trace records what the router did. A call on a trace that another goroutine uses gets ErrBusy.
//
// The layers below count the MoE layers of the model; [Trace.Layers] has the model's own indices.
type Trace struct{ object *object[low.Trace] }

// NewTrace makes a trace of what [Session.SetTrace] gives it to record. The caller closes it.
func (m *Model) NewTrace(what TraceWhat) (*Trace, error) {
	var handle low.Trace
	err := m.object.use(func(h low.Model) low.Error {
		out := new(low.Trace)
		failure := low.TraceCreate(h, uint32(what), out)
		handle = *out
		return failure
	})
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	t.object = newObject(t, &object[low.Trace]{name: "trace", handle: handle, frees: low.TraceFree,
		keeps: []keeper{m.object}})
	return t, nil
}

// Close lets go of the trace; a session goes on recording into what nobody can read. A second call does nothing.
func (t *Trace) Close() { t.object.close() }

// Clear forgets what was recorded.
func (t *Trace) Clear() error { return t.object.use(low.TraceClear) }

// TraceInfo is a trace's present state.
type TraceInfo struct {
	What             TraceWhat
	NMoELayers       int
	NTokens          int // recorded so far
	NExperts         int // N
	NExpertsPerToken int // G_O T_I
	NComponents      int // G_O
}

// Info is the trace's present state.
func (t *Trace) Info() (info TraceInfo, err error) {
	err = t.object.use(func(h low.Trace) (failure low.Error) {
		info, failure = readTraceInfo(h)
		return failure
	})
	return info, err
}

func readTraceInfo(h low.Trace) (TraceInfo, low.Error) {
	info := low.NewTraceInfo()
	defer low.DeleteTraceInfo(info)
	if failure := low.TraceGetInfo(h, info); failure != 0 {
		return TraceInfo{}, failure
	}
	return TraceInfo{
		What:             TraceWhat(info.GetWhat()),
		NMoELayers:       info.GetNMoeLayers(),
		NTokens:          info.GetNTokens(),
		NExperts:         info.GetNExperts(),
		NExpertsPerToken: info.GetNExpertsPerToken(),
		NComponents:      info.GetNComponents(),
	}, 0
}

// read reads an array of a trace.
func read[T any](t *Trace,
	call func(h low.Trace, buffer []T, capacity int, needed *int) low.Error) (all []T, err error) {
	err = t.object.use(func(h low.Trace) (failure low.Error) {
		all, failure = fill(0, func(buffer []T, capacity int, needed *int) low.Error {
			return call(h, buffer, capacity, needed)
		})
		return failure
	})
	return all, err
}

// readLayer reads an array [n_tokens, width] of one layer, as rows of it.
func readLayer[T any](t *Trace, layer int, width func(TraceInfo) int,
	call func(h low.Trace, layer int, buffer []T, capacity int, needed *int) low.Error) ([][]T, error) {
	info, err := t.Info()
	if err != nil {
		return nil, err
	}
	all, err := read(t, func(h low.Trace, buffer []T, capacity int, needed *int) low.Error {
		return call(h, layer, buffer, capacity, needed)
	})
	if err != nil {
		return nil, err
	}
	w := width(info)
	rows := make([][]T, len(all)/w)
	for i := range rows {
		rows[i] = all[i*w : (i+1)*w : (i+1)*w]
	}
	return rows, nil
}

// Layers is the model's own indices of its MoE layers.
func (t *Trace) Layers() ([]int, error) { return read(t, low.TraceLayers) }

// Positions is the position in its session of each token recorded. It needs TraceRoutes or TraceLogits.
func (t *Trace) Positions() ([]int, error) { return read(t, low.TracePositions) }

// Experts is the experts chosen, [n_tokens][n_experts_per_token], ascending in each row. It needs TraceRoutes, as the
// next two.
func (t *Trace) Experts(layer int) ([][]int32, error) {
	return readLayer(t, layer, func(info TraceInfo) int { return info.NExpertsPerToken }, low.TraceExperts)
}

// Weights is the weights of the experts, in their order: [n_tokens][n_experts_per_token].
func (t *Trace) Weights(layer int) ([][]float32, error) {
	return readLayer(t, layer, func(info TraceInfo) int { return info.NExpertsPerToken }, low.TraceWeights)
}

// Groups is the winning group of each output component: [n_tokens][n_components].
func (t *Trace) Groups(layer int) ([][]int32, error) {
	return readLayer(t, layer, func(info TraceInfo) int { return info.NComponents }, low.TraceGroups)
}

// Logits is the router's logits: [n_tokens][n_experts]. It needs TraceLogits.
func (t *Trace) Logits(layer int) ([][]float32, error) {
	return readLayer(t, layer, func(info TraceInfo) int { return info.NExperts }, low.TraceLogits)
}

// Usage is how often each expert was chosen: [n_experts]. It needs TraceUsage, as the next.
func (t *Trace) Usage(layer int) ([]uint64, error) {
	return read(t, func(h low.Trace, buffer []uint64, capacity int, needed *int) low.Error {
		return low.TraceUsage(h, layer, buffer, capacity, needed)
	})
}

// BalanceLoss is the load-balancing loss of Eq. 11 without its factor alpha: 1 when perfectly even.
func (t *Trace) BalanceLoss(layer int) (float64, error) {
	loss := new(float64)
	err := t.object.use(func(h low.Trace) low.Error { return low.TraceBalanceLoss(h, layer, loss) })
	return *loss, err
}
