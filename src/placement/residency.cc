#include "placement/residency.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/system_memory.h"

namespace finermoe {
namespace {

// The ranges of the tensors that `lock` selects, ascending, adjacent ones joined. Devices that have copies read no
// mapping.
std::vector<FileRange> ranges_in_place(const Checkpoint& checkpoint, const Config& config, const Placement& placement,
                                       Lock lock) {
  constexpr uint64_t page = 4096;  // smaller gaps are not worth splitting a range
  std::vector<FileRange> ranges;
  visit_tensors(config, [&](const TensorSpec& spec) {
    const bool is_wanted = lock == Lock::all || is_read_by_every_token(config, spec.kind);
    if (is_wanted && placement.is_in_place(spec)) ranges.push_back(checkpoint.range_of(*checkpoint.find(spec.name)));
  });
  std::sort(ranges.begin(), ranges.end(), [](const FileRange& a, const FileRange& b) {
    return std::pair(a.file, a.begin) < std::pair(b.file, b.begin);
  });
  std::vector<FileRange> joined;
  for (const FileRange& range : ranges) {
    const bool near = !joined.empty() && joined.back().file == range.file && range.begin < joined.back().end + page;
    if (near) {
      joined.back().end = range.end;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

uint64_t bytes_of(std::span<const FileRange> ranges) {
  uint64_t bytes = 0;
  for (const FileRange& range : ranges) bytes += range.size();
  return bytes;
}

// Weights that are used in a mapping; 0 if there are routed experts, but none is used there.
uint64_t mapped_bytes(const Checkpoint& checkpoint, const Placement& placement) {
  uint64_t bytes = 0;
  bool has_experts = !checkpoint.config().is_moe();
  visit_tensors(checkpoint.config(), [&](const TensorSpec& spec) {
    if (!placement.is_in_place(spec)) return;
    const FileRange range = checkpoint.range_of(*checkpoint.find(spec.name));
    if (!checkpoint.files()[range.file]->is_mapped()) return;
    bytes += range.size();
    has_experts |= spec.kind == TensorKind::routed;
  });
  return has_experts ? bytes : 0;
}

}  // namespace

bool is_read_by_every_token(const Config& config, TensorKind kind) {
  return kind != TensorKind::routed && (kind != TensorKind::embedding || config.tied_embeddings);
}

Status prefer_huge_pages(const Checkpoint& checkpoint, const Placement& placement, bool experts_are_managed) {
  constexpr uint64_t huge_page = 2 << 20;
  FM_ASSIGN(const Config config, checkpoint.resolved_config());
  const std::vector<FileRange> ranges =
      ranges_in_place(checkpoint, config, placement, experts_are_managed ? Lock::every_token : Lock::all);
  if (bytes_of(ranges) > available_memory()) return {};
  for (const FileRange& range : ranges) {
    if (range.size() >= huge_page) checkpoint.files()[range.file]->map_by_huge_pages(range.begin, range.size());
  }
  return {};
}

Status lock_weights(const Checkpoint& checkpoint, const Placement& placement, Lock lock, const Progress& progress) {
  if (lock == Lock::none) return {};
  constexpr uint64_t piece = 64 << 20;  // bytes between two progress reports
  FM_ASSIGN(const Config config, checkpoint.resolved_config());
  const std::vector<FileRange> ranges = ranges_in_place(checkpoint, config, placement, lock);
  const uint64_t total = bytes_of(ranges);
  uint64_t done = 0;
  // A cgroup that runs out of memory kills the process instead of failing the call.
  if (const uint64_t available = available_memory(); total > available) {
    return Status(
        FINERMOE_ERROR_OUT_OF_MEMORY,
        format_text("cannot lock ", total, " bytes of weights in memory: only ", available, " bytes are available"),
        format_text("at most ", available, " bytes"), format_text(total, " bytes"));
  }
  for (const FileRange& range : ranges) {
    const FileBytes& file = *checkpoint.files()[range.file];
    for (uint64_t begin = range.begin, end; begin < range.end; begin = end) {
      FM_TRY(progress.report("lock", done, total));
      end = std::min(begin / piece * piece + piece, range.end);  // on a page boundary, or the end
      FM_TRY(file.lock(begin, end - begin));
      done += end - begin;
    }
  }
  return progress.report("lock", total, total);
}

Result<std::shared_ptr<ExpertPages>> manage_experts(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const Placement& placement, const ResidencyOptions& options,
                                                    std::shared_ptr<ThreadPool> pool) {
  const uint64_t budget = options.expert_budget, mapped = mapped_bytes(*checkpoint, placement);
  if (budget != 0 && (mapped == 0 || options.lock == Lock::all)) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "an expert budget needs weights that are mapped and not locked",
                  "mapped weights, experts not locked", mapped == 0 ? "weights in memory" : "all weights locked");
  }
  const bool wanted = options.prefetch == Prefetch::on ||
                      (options.prefetch == Prefetch::automatic && (budget != 0 || mapped > available_memory()));
  const bool prefetch = wanted && options.lock != Lock::all;
  if (!checkpoint->config().is_moe() || mapped == 0 || (budget == 0 && !prefetch)) {
    return std::shared_ptr<ExpertPages>();
  }
  const uint64_t n_together = std::max<uint64_t>(2, checkpoint->config().router.n_experts_per_token());
  auto pages =
      std::make_shared<ExpertPages>(std::move(checkpoint), ExpertPages::Options{prefetch, budget}, std::move(pool));
  const uint64_t least = n_together * pages->largest();
  if (budget != 0 && budget < least) {
    return Status(
        FINERMOE_ERROR_INVALID_ARGUMENT,
        format_text("an expert budget of ", budget, " bytes is too small: ", n_together, " experts take ", least),
        format_text("at least ", least, " bytes"), format_text(budget, " bytes"));
  }
  return pages;
}

}  // namespace finermoe
