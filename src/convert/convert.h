// Writers of checkpoints, and the check of one: streaming, reproducible, all or nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/progress.h"
#include "base/status.h"
#include "format/quantization.h"

namespace finermoe {

struct WriterOptions {
  uint64_t seed = 0;
  uint64_t shard_size = 5'000'000'000;  // bytes
  bool overwrite = false;
  Progress progress;  // phase "write", in bytes
};

enum class ConcatProj : int32_t {
  none = FINERMOE_CONCAT_PROJ_NONE,
  normal = FINERMOE_CONCAT_PROJ_NORMAL,
  zero = FINERMOE_CONCAT_PROJ_ZERO
};
enum class RouterInit : int32_t {
  normal = FINERMOE_ROUTER_INIT_NORMAL,
  virtual_group = FINERMOE_ROUTER_INIT_VIRTUAL_GROUP
};

struct UpcycleOptions {
  uint64_t granularity_inter = 32, expansion_inter = 1, granularity_output = 2, expansion_output = 2, top_inter = 1;
  bool shared_expert = true;
  ConcatProj concat_proj = ConcatProj::none;
  bool separate_router = false;
  double down_scale = 0;  // 0: G_I without a shared expert, else 1
  double drop_ratio = 0;  // Drop-Upcycling
  RouterInit router_init = RouterInit::normal;

  // "finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg", "out-fg"
  static Result<UpcycleOptions> preset(const std::string& name);
};

Status upcycle(const std::string& dense_path, const std::string& out_path, const UpcycleOptions& options,
               const WriterOptions& writer_options);

// nullopt: the configuration's own dtype.
Status synthesize(const std::string& config_path, const std::string& out_path, std::optional<DType> dtype,
                  const WriterOptions& writer_options);

// A copy of a model with its matrices in block formats.
Status quantize(const std::string& path, const std::string& out_path, const Quantization& types,
                const WriterOptions& writer_options);

struct VerifiedFile {
  std::string name, sha256, first_bad;
  uint64_t size = 0, n_tensors = 0, n_nan = 0, n_infinite = 0;
};
// Every file of a model, in order of name. Progress: phase "verify", in bytes.
Result<std::vector<VerifiedFile>> verify(const std::string& path, const Progress& progress);

}  // namespace finermoe
