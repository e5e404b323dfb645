#include "placement/expert_pages.h"

#include <algorithm>

#include "format/tensor_table.h"

namespace finermoe {
namespace {

// A page fault also maps this many bytes around the touched one, if they are in the page cache (fault-around).
constexpr uint64_t fault_around = 64 << 10;
// The bytes that one worker requests at a time.
constexpr uint64_t piece = 1 << 20;
// The most bytes of experts to prefetch at a time; while they are read, as many are in use.
constexpr uint64_t longest_run = 64 << 20;

}  // namespace

ExpertPages::ExpertPages(std::shared_ptr<const Checkpoint> checkpoint, const Options& options,
                         std::shared_ptr<ThreadPool> pool)
    : checkpoint_(std::move(checkpoint)), options_(options), pool_(std::move(pool)) {
  const Config& config = checkpoint_->config();
  experts_.resize(config.n_moe_layers() * config.router.n_experts());
  visit_tensors(config, [&](const TensorSpec& spec) {
    if (spec.kind == TensorKind::routed) {
      add(static_cast<uint32_t>(spec.expert_of_all), checkpoint_->range_of(*checkpoint_->find(spec.name)));
    }
  });
  for (Expert& expert : experts_) {
    expert.place = recent_.end();
    for (const FileRange& extent : expert.extents) {
      expert.bytes += mapped_by(extent).size();
      if (options_.budget != 0) {
        checkpoint_->files()[extent.file]->map_by_small_pages(extent.begin, extent.size());
      }
    }
    largest_ = std::max(largest_, expert.bytes);
  }
}

// Matrices of an expert that share a page become one extent.
void ExpertPages::add(uint32_t expert, FileRange extent) {
  std::vector<FileRange>& extents = experts_[expert].extents;
  for (auto other = extents.begin(); other != extents.end();) {
    const FileRange a = mapped_by(*other), b = mapped_by(extent);
    const bool touches = a.file == b.file && a.begin <= b.end && b.begin <= a.end;
    if (touches) {
      extent.begin = std::min(extent.begin, other->begin);
      extent.end = std::max(extent.end, other->end);
    }
    other = touches ? extents.erase(other) : other + 1;
  }
  extents.push_back(extent);
}

FileRange ExpertPages::mapped_by(const FileRange& used) const {
  return {
      used.file, used.begin / fault_around * fault_around,
      std::min((used.end + fault_around - 1) / fault_around * fault_around, checkpoint_->files()[used.file]->size())};
}

size_t ExpertPages::run_length(std::span<const uint32_t> chosen) const {
  const uint64_t most = options_.budget != 0 ? std::min(options_.budget / 2, longest_run) : longest_run;
  size_t length = 0;
  for (uint64_t bytes = 0; length < chosen.size(); length++) {
    bytes += experts_[chosen[length]].bytes;
    if (bytes > most) break;
  }
  return std::max<size_t>(length, 1);
}

std::vector<FileRange> ExpertPages::make_room(std::span<const uint32_t> experts) {
  std::lock_guard lock(mutex_);
  for (uint32_t index : experts) {
    Expert& expert = experts_[index];
    if (expert.place != recent_.end()) {
      recent_.splice(recent_.begin(), recent_, expert.place);
    } else {
      expert.place = recent_.insert(recent_.begin(), index);
      resident_ += expert.bytes;
    }
  }
  std::vector<FileRange> released;
  while (resident_ > options_.budget && recent_.size() > experts.size()) {
    Expert& last = experts_[recent_.back()];
    recent_.pop_back();
    last.place = recent_.end();
    resident_ -= last.bytes;
    for (const FileRange& extent : last.extents) released.push_back(mapped_by(extent));
  }
  return released;
}

void ExpertPages::will_use(std::span<const uint32_t> experts) {
  const auto& files = checkpoint_->files();
  if (options_.budget != 0) {
    const std::vector<FileRange> released = make_room(experts);
    pool_->run(released.size(),
               [&](size_t i, size_t) { files[released[i].file]->release(released[i].begin, released[i].size()); });
  }
  if (!options_.prefetch) return;
  std::vector<FileRange> pieces;
  for (uint32_t expert : experts) {
    for (FileRange rest : experts_[expert].extents) {
      for (; rest.begin < rest.end; rest.begin += piece) {
        pieces.push_back({rest.file, rest.begin, std::min(rest.begin + piece, rest.end)});
      }
    }
  }
  pool_->run(pieces.size(),
             [&](size_t i, size_t) { files[pieces[i].file]->will_read(pieces[i].begin, pieces[i].size()); });
}

}  // namespace finermoe
