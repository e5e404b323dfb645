// finermoe embed: the model's hidden states as vectors for texts.
#include <algorithm>
#include <cmath>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "npy.h"
#include "output_file.h"
#include "printing.h"
#include "progress.h"
#include "tokenizer.h"

namespace tool {

namespace {

constexpr size_t kRowsAtOnce = 256;  // hidden states held at a time

struct EmbedFlags {
  std::string model, lines, jsonl, pooling = "last", out;
  InputFlags input;
  ComputeFlags compute;
  bool normalize = false;
};

void declare(CLI::App& app, EmbedFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  CLI::Option* const lists[] = {
      app.add_option("--lines", flags.lines, "a file with a text a line; - is standard input")->type_name("FILE"),
      app.add_option("--jsonl", flags.jsonl, "a file with a JSON string, [ids] or {\"ids\":[...]} a line")
          ->type_name("FILE")};
  lists[0]->excludes(lists[1]);
  for (CLI::Option* list : lists) {
    list->group(flags.input.text_option->get_group());
    for (CLI::Option* one :
         {flags.input.text_option, flags.input.file_option, flags.input.ids_option, flags.input.ids_file_option}) {
      list->excludes(one);
    }
  }
  add_choice(app, "--pooling", flags.pooling, {"last", "mean"},
             "the hidden state of the last token, or the mean over all (default last)");
  app.add_flag("--normalize", flags.normalize, "vectors of length 1");
  app.add_option("--out", flags.out, "a .npy file to write instead of JSON: float32 [texts, hidden]")
      ->type_name("FILE");
  add_compute(app, flags.compute);
}

struct Text {
  std::string name;  // "line 3"
  std::vector<int32_t> ids;
};

std::vector<Text> read_texts(const EmbedFlags& flags, const Model& model) {
  std::vector<Text> texts;
  Tokenizer tokenizer;
  const auto encode_text = [&](const std::string& text) {
    if (!tokenizer) tokenizer = need_tokenizer(model);
    return encode(tokenizer, text, flags.input.as);
  };
  if (!flags.lines.empty()) {
    for_each_line(flags.lines, [&](const std::string& line, size_t number) {
      texts.push_back({"line " + std::to_string(number), encode_text(line)});
    });
  } else if (!flags.jsonl.empty()) {
    for_each_line(flags.jsonl, [&](const std::string& line, size_t number) {
      if (line.empty()) return;
      const std::string name = "line " + std::to_string(number);
      const nlohmann::json json = parse_line(line, number);
      if (json.is_string()) {
        texts.push_back({name, encode_text(json.get<std::string>())});
        return;
      }
      const nlohmann::json& ids = json.is_object() && json.contains("ids") ? json["ids"] : json;
      if (!ids.is_array()) throw Failure(kError, name + ": expected a JSON string, [ids] or {\"ids\":[...]}");
      texts.push_back({name, json_ids(ids, name)});
    });
  } else {
    for (std::vector<int32_t>& ids : read_rows(flags.input, model)) {
      texts.push_back({"text " + std::to_string(texts.size() + 1), std::move(ids)});
    }
  }
  if (texts.empty()) throw Failure(kError, "there is no text to embed");
  for (const Text& text : texts) {
    if (text.ids.empty()) throw Failure(kError, text.name + ": no token to embed");
  }
  return texts;
}

Session open_hidden_session(const Model& model, const EmbedFlags& flags, const std::vector<Text>& texts) {
  size_t longest = 0;
  for (const Text& text : texts) longest = std::max(longest, text.ids.size());
  const SessionOptions options = session_options(flags.compute, clamp_context(model, longest));
  call(finermoe_session_options_set_hidden, options.get(), FINERMOE_HIDDEN_ONLY);
  Session session;
  call(finermoe_session_create, model.get(), options.get(), session.out());
  const size_t most = read_info<finermoe_session_info>(finermoe_session_get_info, session.get()).context_length;
  for (const Text& text : texts) {
    if (text.ids.size() <= most) continue;
    throw Failure(kError, text.name + ": " + std::to_string(text.ids.size()) +
                              " tokens do not fit into the context of " + std::to_string(most));
  }
  return session;
}

std::vector<float> last_state(const Session& session, const std::vector<int32_t>& ids, finermoe_cancel* cancel) {
  call(finermoe_session_append, session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_LAST, cancel);
  return fetch<float>(finermoe_session_hidden, session.get(), size_t{0});
}

std::vector<float> mean_state(const Session& session, const std::vector<int32_t>& ids, finermoe_cancel* cancel) {
  std::vector<double> sum;
  for (size_t begin = 0; begin < ids.size(); begin += kRowsAtOnce) {
    const size_t n = std::min(kRowsAtOnce, ids.size() - begin);
    call(finermoe_session_append, session.get(), ids.data() + begin, n, FINERMOE_LOGITS_ALL, cancel);
    for (size_t row = 0; row < n; ++row) {
      const std::vector<float> hidden = fetch<float>(finermoe_session_hidden, session.get(), row);
      sum.resize(hidden.size());
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(hidden[i]);
    }
  }
  std::vector<float> mean(sum.size());
  for (size_t i = 0; i < sum.size(); ++i) mean[i] = static_cast<float>(sum[i] / static_cast<double>(ids.size()));
  return mean;
}

void normalize(std::vector<float>& vector) {
  double squares = 0;
  for (const float x : vector) squares += static_cast<double>(x) * static_cast<double>(x);
  if (squares == 0) return;
  for (float& x : vector) x = static_cast<float>(static_cast<double>(x) / std::sqrt(squares));
}

int run_embed(const EmbedFlags& flags) {
  const Interrupt interrupt;
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const std::vector<Text> texts = read_texts(flags, model);
  const Session session = open_hidden_session(model, flags, texts);
  std::optional<OutputFile> file;
  if (!flags.out.empty()) {
    const std::string header = npy_header_float32(texts.size(), model_info(model).hidden_size);
    file.emplace(flags.out).write(header.data(), header.size());
  }
  size_t n_tokens = 0, n_done = 0;
  for (const Text& text : texts) n_tokens += text.ids.size();
  for (const Text& text : texts) {
    call(finermoe_session_reset, session.get());
    std::vector<float> vector = flags.pooling == "mean" ? mean_state(session, text.ids, interrupt.cancel())
                                                        : last_state(session, text.ids, interrupt.cancel());
    if (flags.normalize) normalize(vector);
    if (file) {
      file->write(vector.data(), vector.size() * sizeof(float));
    } else {
      Json values = Json::array();
      for (const float x : vector) values.push_back(json_float(x));
      print(dump({{"embedding", std::move(values)}, {"tokens", text.ids.size()}}));
    }
    progress.show("embed", n_done += text.ids.size(), n_tokens);
  }
  if (file) file->finish();
  return kOk;
}

}  // namespace

void add_embed(CommandLine& line) {
  add_command<EmbedFlags>(line, "embed", "a vector for each text, of the model's last hidden states, as JSON or .npy",
                          "  finermoe embed MODEL -p 'A tower with a light'\n"
                          "  finermoe embed MODEL --lines texts.txt --pooling mean --normalize --out vectors.npy\n"
                          "  finermoe embed MODEL --jsonl texts.jsonl > vectors.jsonl\n",
                          declare, run_embed);
}

}  // namespace tool
