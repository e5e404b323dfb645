// The writers by themselves, for the scripts in this folder and bench/upcycle_speed.py:
//   convert_driver upcycle DENSE OUT [flag value …] | synthesize CONFIG OUT [flag value …] |
//   quantize MODEL OUT [flag value …] | verify PATH | open PATH | decode MODEL
// decode writes what matrices in blocks stand for, float32 row after row, in the order of the file; the others
// print JSON on success; "error CODE: message" and exit status 1 on failure.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/blocks.h"
#include "convert/convert.h"
#include "format/checkpoint.h"

namespace {

using namespace finermoe;
using Json = nlohmann::json;

// What the progress callback sees and does.
struct Watch {
  uint64_t cancel_after = ~uint64_t{0};  // bytes
  std::string fill_disk;                 // a file to which zeros are written until the disk is full
  uint64_t n_calls = 0, peak_anonymous = 0, total = 0;
  bool is_in_order = true;
  uint64_t last = 0;
};

uint64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "RssAnon:" && status >> word) return std::strtoull(word.c_str(), nullptr, 10) * 1024;
  return 0;
}

int32_t on_progress(void* user, const char*, uint64_t done, uint64_t total) {
  Watch& watch = *static_cast<Watch*>(user);
  watch.is_in_order = watch.is_in_order && done >= watch.last && done <= total;
  watch.last = done;
  watch.total = total;
  watch.n_calls++;
  watch.peak_anonymous = std::max(watch.peak_anonymous, anonymous_bytes());
  if (!watch.fill_disk.empty()) {
    std::ofstream file(watch.fill_disk, std::ios::binary);
    std::string zeros(1 << 16, '\0');
    while (file.write(zeros.data(), static_cast<std::streamsize>(zeros.size())).flush()) {
    }
    watch.fill_disk.clear();
  }
  return done >= watch.cancel_after;
}

int fail(const Status& status) {
  std::cout << "error " << status.code() << ": " << status.message() << "\n";
  return 1;
}

using Flags = std::map<std::string, std::string>;

void set(const Flags& flags, const char* name, uint64_t& value) {
  if (auto found = flags.find(name); found != flags.end()) value = std::strtoull(found->second.c_str(), nullptr, 10);
}
void set(const Flags& flags, const char* name, double& value) {
  if (auto found = flags.find(name); found != flags.end()) value = std::strtod(found->second.c_str(), nullptr);
}
std::string get(const Flags& flags, const char* name, const char* otherwise) {
  auto found = flags.find(name);
  return found == flags.end() ? otherwise : found->second;
}

Status run_upcycle(const std::string& in, const std::string& out, const Flags& flags, const WriterOptions& writer) {
  FM_ASSIGN(UpcycleOptions options, UpcycleOptions::preset(get(flags, "--preset", "finermoe")));
  set(flags, "--g-i", options.granularity_inter);
  set(flags, "--r-i", options.expansion_inter);
  set(flags, "--g-o", options.granularity_output);
  set(flags, "--r-o", options.expansion_output);
  set(flags, "--t-i", options.top_inter);
  set(flags, "--down-scale", options.down_scale);
  set(flags, "--drop-ratio", options.drop_ratio);
  if (flags.contains("--shared")) options.shared_expert = flags.at("--shared") == "copy";
  std::string concat_proj = get(flags, "--concat-proj", "none");
  options.concat_proj = concat_proj == "zero"     ? ConcatProj::zero
                        : concat_proj == "normal" ? ConcatProj::normal
                                                  : ConcatProj::none;
  options.separate_router = get(flags, "--router", "single") == "separate";
  if (get(flags, "--router-init", "normal") == "virtual-group") options.router_init = RouterInit::virtual_group;
  return upcycle(in, out, options, writer);
}

Status run_synthesize(const std::string& in, const std::string& out, const Flags& flags, const WriterOptions& writer) {
  std::optional<DType> dtype;
  std::string name = get(flags, "--dtype", "");
  for (DType one : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4})
    if (name == name_of(one)) dtype = one;
  return synthesize(in, out, dtype, writer);
}

// --dtype Q8|Q4, --pattern PATTERN with --type Q8|Q4 (otherwise as in the source)
Status run_quantize(const std::string& in, const std::string& out, const Flags& flags, const WriterOptions& writer) {
  auto type = [&](const char* flag) {
    std::string name = get(flags, flag, "");
    return name == "Q4" ? std::optional(DType::q4) : name == "Q8" ? std::optional(DType::q8) : std::nullopt;
  };
  Quantization types{type("--dtype").value_or(DType::q8), DType::q8, {}};
  if (flags.contains("--pattern")) types.overrides.push_back({flags.at("--pattern"), type("--type")});
  return quantize(in, out, types, writer);
}

int write(const std::string& command, const std::string& in, const std::string& out, const Flags& flags) {
  Watch watch;
  WriterOptions writer;
  uint64_t overwrite = 0;
  set(flags, "--seed", writer.seed);
  set(flags, "--shard-size", writer.shard_size);
  set(flags, "--force", overwrite);
  set(flags, "--cancel-after", watch.cancel_after);
  watch.fill_disk = get(flags, "--fill-disk", "");
  writer.overwrite = overwrite != 0;
  writer.progress.callback = on_progress;
  writer.progress.user = &watch;
  auto start = std::chrono::steady_clock::now();
  auto run = command == "upcycle" ? run_upcycle : command == "quantize" ? run_quantize : run_synthesize;
  Status status = run(in, out, flags, writer);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!status.ok()) return fail(status);
  std::cout << Json{{"seconds", seconds},
                    {"bytes", watch.total},
                    {"peak_anonymous", watch.peak_anonymous},
                    {"progress_calls", watch.n_calls},
                    {"progress_in_order", watch.is_in_order && watch.last == watch.total}}
            << "\n";
  return 0;
}

int run_verify(const std::string& path) {
  auto files = verify(path, Progress());
  if (!files.ok()) return fail(files.status());
  Json out = Json::array();
  for (const VerifiedFile& file : *files)
    out.push_back({{"name", file.name},
                   {"sha256", file.sha256},
                   {"size", file.size},
                   {"n_tensors", file.n_tensors},
                   {"n_nan", file.n_nan},
                   {"n_infinite", file.n_infinite},
                   {"first_bad", file.first_bad}});
  std::cout << out << "\n";
  return 0;
}

int run_decode(const std::string& path) {
  Checkpoint::Options options;
  options.account = std::make_shared<MemoryAccount>(0);
  auto checkpoint = Checkpoint::open(path, options);
  if (!checkpoint.ok()) return fail(checkpoint.status());
  for (const Tensor& tensor : (*checkpoint)->tensors()) {
    if (!is_blocked(tensor.dtype)) continue;
    std::vector<float> row(tensor.columns);
    const uint64_t panel_bytes = matrix_bytes(tensor.dtype, panel_rows, tensor.columns);
    for (uint64_t r = 0; r < tensor.rows; r++) {
      decode_row(tensor.dtype, tensor.data + r / panel_rows * panel_bytes, r % panel_rows, row);
      std::fwrite(row.data(), sizeof(float), row.size(), stdout);
    }
  }
  return 0;
}

int run_open(const std::string& path) {
  Checkpoint::Options options;
  options.account = std::make_shared<MemoryAccount>(0);
  auto checkpoint = Checkpoint::open(path, options);
  if (!checkpoint.ok()) return fail(checkpoint.status());
  std::cout << Json{{"n_tensors", (*checkpoint)->tensors().size()}} << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string command = argc > 1 ? argv[1] : "";
  if (command == "verify" && argc == 3) return run_verify(argv[2]);
  if (command == "open" && argc == 3) return run_open(argv[2]);
  if (command == "decode" && argc == 3) return run_decode(argv[2]);
  if ((command == "upcycle" || command == "synthesize" || command == "quantize") && argc >= 4 && argc % 2 == 0) {
    Flags flags;
    for (int i = 4; i < argc; i += 2) flags[argv[i]] = argv[i + 1];
    return write(command, argv[2], argv[3], flags);
  }
  std::cerr << "usage: see the head of convert_driver.cc\n";
  return 2;
}
