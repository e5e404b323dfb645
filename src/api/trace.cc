// Section 8 of finermoe.h: trace.
#include "analysis/balance_loss.h"
#include "api/handles.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

template <class Body>
int32_t on_trace(const finermoe_trace* handle, finermoe_error** error, Body&& body) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(handle, "trace"));
    const std::shared_ptr<Trace> trace = handle->trace;
    FM_TRY(trace->model->runtime()->check_process());
    const ExclusiveUse use(trace->use, "trace");
    FM_TRY(use.check());
    return body(*trace);
  });
}

// Any of these FINERMOE_TRACE_….
Status require_recorded(const Trace& trace, uint32_t what) {
  if ((trace.what() & what) != 0) return {};
  return Status(FINERMOE_ERROR_STATE, "the trace does not record this",
                format_text("the flag ", what, " at its creation"), format_text("the flags ", trace.what()));
}

// The same for one of its layers, if the trace records what is asked for.
template <class Body>
int32_t on_layer(const finermoe_trace* handle, size_t moe_layer, uint32_t what, finermoe_error** error, Body&& body) {
  return on_trace(handle, error, [&](Trace& trace) -> Status {
    const size_t n_layers = trace.layers().size();
    if (moe_layer >= n_layers) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("there is no MoE layer ", moe_layer),
                    format_text("less than ", n_layers), format_text(moe_layer));
    }
    FM_TRY(require_recorded(trace, what));
    return body(trace, trace.layer(moe_layer));
  });
}

}  // namespace

int32_t finermoe_trace_create(const finermoe_model* model, uint32_t what, finermoe_trace** trace,
                              finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(require(trace, "trace"));
    constexpr uint32_t all = FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS | FINERMOE_TRACE_USAGE;
    FM_TRY(require_range(what, what != 0 && (what & ~all) == 0, "what", "FINERMOE_TRACE_… flags"));
    const auto loaded = model->model;
    FM_TRY(loaded->runtime()->check_process());
    FM_ASSIGN(auto created, Trace::create(loaded->config(), what, loaded->runtime()->account()));
    created->model = loaded;
    return give(trace, std::move(created));
  });
}
void finermoe_trace_free(finermoe_trace* trace) { delete trace; }

int32_t finermoe_trace_clear(finermoe_trace* trace, finermoe_error** error) {
  return on_trace(trace, error, [](Trace& t) -> Status {
    t.clear();
    return {};
  });
}

int32_t finermoe_trace_get_info(const finermoe_trace* trace, finermoe_trace_info* info, finermoe_error** error) {
  return on_trace(trace, error, [&](Trace& t) -> Status {
    finermoe_trace_info out{};
    out.what = t.what();
    out.n_moe_layers = t.layers().size();
    out.n_tokens = t.n_tokens();
    out.n_experts = t.shape().n_experts();
    out.n_experts_per_token = t.shape().n_experts_per_token();
    out.n_components = t.shape().granularity_output;
    return put_struct(out, info);
  });
}

int32_t finermoe_trace_positions(const finermoe_trace* trace, size_t* positions, size_t capacity, size_t* needed,
                                 finermoe_error** error) {
  return on_trace(trace, error, [&](Trace& t) -> Status {
    FM_TRY(require_recorded(t, FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS));
    return put<size_t>(t.positions(), positions, capacity, needed);
  });
}

int32_t finermoe_trace_layers(const finermoe_trace* trace, size_t* layers, size_t capacity, size_t* needed,
                              finermoe_error** error) {
  return on_trace(trace, error, [&](Trace& t) -> Status { return put<size_t>(t.layers(), layers, capacity, needed); });
}

int32_t finermoe_trace_experts(const finermoe_trace* trace, size_t moe_layer, int32_t* experts, size_t capacity,
                               size_t* needed, finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_ROUTES, error, [&](Trace&, const Trace::Layer& layer) {
    return put<int32_t>(layer.experts, experts, capacity, needed);
  });
}

int32_t finermoe_trace_weights(const finermoe_trace* trace, size_t moe_layer, float* weights, size_t capacity,
                               size_t* needed, finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_ROUTES, error, [&](Trace&, const Trace::Layer& layer) {
    return put<float>(layer.weights, weights, capacity, needed);
  });
}

int32_t finermoe_trace_groups(const finermoe_trace* trace, size_t moe_layer, int32_t* groups, size_t capacity,
                              size_t* needed, finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_ROUTES, error, [&](Trace&, const Trace::Layer& layer) {
    return put<int32_t>(layer.groups, groups, capacity, needed);
  });
}

int32_t finermoe_trace_logits(const finermoe_trace* trace, size_t moe_layer, float* logits, size_t capacity,
                              size_t* needed, finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_LOGITS, error, [&](Trace&, const Trace::Layer& layer) {
    return put<float>(layer.logits, logits, capacity, needed);
  });
}

int32_t finermoe_trace_usage(const finermoe_trace* trace, size_t moe_layer, uint64_t* counts, size_t capacity,
                             size_t* needed, finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_USAGE, error, [&](Trace&, const Trace::Layer& layer) {
    return put<uint64_t>(layer.usage, counts, capacity, needed);
  });
}

int32_t finermoe_trace_balance_loss(const finermoe_trace* trace, size_t moe_layer, double* loss,
                                    finermoe_error** error) {
  return on_layer(trace, moe_layer, FINERMOE_TRACE_USAGE, error, [&](Trace& t, const Trace::Layer& layer) -> Status {
    FM_TRY(require(loss, "loss"));
    if (t.n_tokens() == 0) return Status(FINERMOE_ERROR_STATE, "nothing was recorded", "at least one token", "none");
    *loss = balance_loss(layer.usage, layer.probability, t.shape().n_experts_per_token(), t.n_tokens());
    return {};
  });
}
