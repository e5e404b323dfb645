// Kinds of rows: sessions and traces.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "runner.h"

namespace {

Json logits(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const Ids ids = row["ids"];
  const Json& keep = row["keep"];
  if (keep.is_array()) {
    const std::vector<size_t> rows = keep;
    call([&](auto** e) {
      return finermoe_session_append_rows(session.get(), ids.data(), ids.size(), rows.data(), rows.size(), nullptr, e);
    });
  } else {
    append(session.get(), ids, keep == "all" ? FINERMOE_LOGITS_ALL : FINERMOE_LOGITS_LAST);
  }
  const auto info =
      get<finermoe_session_info>([&](auto* out, auto** e) { return finermoe_session_get_info(session.get(), out, e); });
  Json values = Json::array(), likeliest = Json::array();
  for (size_t i = 0; i < info.n_logits; i++) {
    const auto kept = logits_row(session.get(), i);
    values.push_back(columns_of(kept, row["columns"]));
    likeliest.push_back(argmax(kept));
  }
  return {{"values", values}, {"argmax", likeliest}};
}

Json hidden(const Json& row) {
  const auto model = open_row_model(row);
  const auto options = session_options(row);
  const int32_t what = row.value("only", false) ? FINERMOE_HIDDEN_ONLY : FINERMOE_HIDDEN_KEEP;
  call([&](auto** e) { return finermoe_session_options_set_hidden(options.get(), what, e); });
  const auto session = create<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model.get(), options.get(), out, e); });
  const Ids ids = row["ids"];
  const std::vector<size_t> rows = row["rows"];
  call([&](auto** e) {
    return finermoe_session_append_rows(session.get(), ids.data(), ids.size(), rows.data(), rows.size(), nullptr, e);
  });
  Json values = Json::array();
  for (size_t i = 0; i < rows.size(); i++) {
    const auto kept = read<std::vector<float>>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_session_hidden(session.get(), i, out, capacity, needed, e);
    });
    values.push_back(columns_of(kept, row["columns"]));
  }
  const auto info =
      get<finermoe_session_info>([&](auto* out, auto** e) { return finermoe_session_get_info(session.get(), out, e); });
  return {{"values", values}, {"n_logits", info.n_logits}};
}

Json score(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const Ids ids = row["ids"];
  std::vector<float> logprobs(ids.size());
  Ids likeliest(ids.size());
  call([&](auto** e) {
    return finermoe_session_score(session.get(), ids.data(), ids.size(), nullptr, logprobs.data(), likeliest.data(),
                                  ids.size(), nullptr, e);
  });
  Json rounded = Json::array();
  for (const float logprob : logprobs) {
    rounded.push_back(std::isnan(logprob) ? Json() : Json(std::round(logprob * 1e6) / 1e6));
  }
  return {{"logprobs", rounded}, {"likeliest", likeliest}};
}

size_t length_of(const finermoe_session* session) {
  return get<finermoe_session_info>([&](auto* out, auto** e) { return finermoe_session_get_info(session, out, e); })
      .length;
}

// A session that steps are done on, with what they saved.
struct Stage {
  finermoe_model* model;
  std::vector<SessionHandle> sessions;  // the last is the one in use
  std::filesystem::path file = temporary_folder() / "session";
  std::string memory;

  finermoe_session* session() const { return sessions.back().get(); }
};

Json do_step(Stage& stage, const Json& step) {
  const std::string what = step[0];
  finermoe_session* const session = stage.session();
  if (what == "generate") return text_to_the_end(start(stage.model, session, step[1]).get());
  if (what == "keep_prefix") {
    const Ids ids = step[1];
    size_t n_kept = 0;
    call([&](auto** e) { return finermoe_session_keep_prefix(session, ids.data(), ids.size(), &n_kept, e); });
    return Json::array({n_kept});
  }
  if (what == "append") {
    append(session, step[1]);
  } else if (what == "fork") {
    stage.sessions.push_back(
        create<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_fork(session, out, e); }));
  } else if (what == "save_memory") {
    stage.memory = read<std::string>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_session_save_memory(session, out, capacity, needed, e);
    });
  } else {
    call([&](auto** e) -> int32_t {
      if (what == "truncate") return finermoe_session_truncate(session, step[1], e);
      if (what == "remove") return finermoe_session_remove(session, step[1], step[2], e);
      if (what == "set_context_length") return finermoe_session_set_context_length(session, step[1], e);
      if (what == "reset") return finermoe_session_reset(session, e);
      if (what == "save") return finermoe_session_save(session, stage.file.c_str(), e);
      if (what == "restore") return finermoe_session_restore(session, stage.file.c_str(), e);
      if (what == "restore_memory") {
        return finermoe_session_restore_memory(session, stage.memory.data(), stage.memory.size(), e);
      }
      throw Failed{0, "no such step: " + what, "", ""};
    });
  }
  return length_of(stage.session());
}

Json session(const Json& row) {
  const auto model = open_row_model(row);
  Stage stage{.model = model.get(), .sessions = {}, .memory = {}};
  stage.sessions.push_back(open_row_session(model.get(), row));
  Json results = Json::array();
  for (const Json& step : row["steps"]) results.push_back(do_step(stage, step));
  const auto tokens = read<Ids>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_tokens(stage.session(), out, capacity, needed, e);
  });
  append(stage.session(), {tokens.empty() ? 0 : tokens.back()}, FINERMOE_LOGITS_LAST);
  return {{"results", results}, {"tokens", tokens}, {"argmax", argmax(logits_row(stage.session(), 0))}};
}

Json session_info(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  append(session.get(), row["ids"], FINERMOE_LOGITS_LAST);
  const auto info =
      get<finermoe_session_info>([&](auto* out, auto** e) { return finermoe_session_get_info(session.get(), out, e); });
  return {{"kv_dtype", info.kv_dtype},     {"length", info.length},     {"context_length", info.context_length},
          {"n_logits", info.n_logits},     {"kv_bytes", info.kv_bytes}, {"precision", info.precision},
          {"n_computed", info.n_computed}, {"n_hidden", info.n_hidden}};
}

// Rows of `width` values.
template <class T>
Json in_rows(const std::vector<T>& values, size_t width) {
  Json rows = Json::array();
  for (size_t i = 0; i < values.size(); i += width) {
    Json row = Json::array();
    for (size_t j = i; j < i + width; j++) {
      if constexpr (std::is_floating_point_v<T>) {
        row.push_back(std::round(values[j] * 1e6) / 1e6);
      } else {
        row.push_back(values[j]);
      }
    }
    rows.push_back(row);
  }
  return rows;
}

Json routes(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto owner = create<std::unique_ptr<finermoe_trace, FreeWith<finermoe_trace_free>>>([&](auto** out, auto** e) {
    return finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS | FINERMOE_TRACE_USAGE, out,
                                 e);
  });
  finermoe_trace* const trace = owner.get();
  call([&](auto** e) { return finermoe_session_set_trace(session.get(), trace, e); });
  append(session.get(), row["ids"]);
  const auto info =
      get<finermoe_trace_info>([&](auto* out, auto** e) { return finermoe_trace_get_info(trace, out, e); });
  const size_t layer = row["moe_layer"];
  const auto read_layer = [&]<class T>(T, auto function) {
    return read<std::vector<T>>([&](T* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return function(trace, layer, out, capacity, needed, e);
    });
  };
  const auto read_all = [&](auto function) {
    return read<std::vector<size_t>>([&](size_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return function(trace, out, capacity, needed, e);
    });
  };
  const auto usage = read_layer(uint64_t{}, finermoe_trace_usage);
  const auto router_logits = read_layer(float{}, finermoe_trace_logits);
  Json likeliest = Json::array();
  for (size_t i = 0; i < router_logits.size(); i += info.n_experts) {
    const auto begin = router_logits.begin() + static_cast<std::ptrdiff_t>(i);
    likeliest.push_back(std::max_element(begin, begin + static_cast<std::ptrdiff_t>(info.n_experts)) - begin);
  }
  double loss = 0;
  call([&](auto** e) { return finermoe_trace_balance_loss(trace, layer, &loss, e); });
  return {{"layers", read_all(finermoe_trace_layers)},
          {"positions", read_all(finermoe_trace_positions)},
          {"experts", in_rows(read_layer(int32_t{}, finermoe_trace_experts), info.n_experts_per_token)},
          {"weights", in_rows(read_layer(float{}, finermoe_trace_weights), info.n_experts_per_token)},
          {"groups", in_rows(read_layer(int32_t{}, finermoe_trace_groups), info.n_components)},
          {"usage",
           {std::accumulate(usage.begin(), usage.end(), uint64_t{0}), *std::max_element(usage.begin(), usage.end())}},
          {"balance_loss", loss},
          {"logits_argmax", likeliest}};
}

}  // namespace

void add_sessions(Behaviours& behaviours) {
  behaviours.insert({{"logits", logits},
                     {"hidden", hidden},
                     {"score", score},
                     {"session", session},
                     {"session_info", session_info},
                     {"routes", routes}});
}
