#include "convert/drop.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace finermoe {
namespace {

using Sums = DropLayer::Sums;

void add(Sums& sums, double value) {
  sums.first += value;
  sums.second += value * value;
}

// `out` [rows]: sums over each row of `matrix`.
void sum_rows(const Tensor& matrix, ThreadPool& pool, std::vector<Sums>& out) {
  out.assign(matrix.rows, {});
  pool.run(matrix.rows, [&](size_t row, size_t) {
    Sums sums;
    for (uint64_t i = 0; i < matrix.columns; ++i)
      add(sums, load_element(matrix.dtype, matrix.data, row * matrix.columns + i));
    out[row] = sums;
  });
}

// `out` [parts, columns]: sums over each column of each of the `parts` of the rows of `matrix`.
void sum_columns(const Tensor& matrix, uint64_t parts, ThreadPool& pool, std::vector<Sums>& out) {
  constexpr uint64_t width = 512;  // columns per task: a few cache lines of each row
  out.assign(parts * matrix.columns, {});
  uint64_t tasks = (matrix.columns + width - 1) / width, rows = matrix.rows / parts;
  pool.run(tasks, [&](size_t task, size_t) {
    uint64_t end = std::min((task + 1) * width, matrix.columns);
    for (uint64_t row = 0; row < matrix.rows; ++row)
      for (uint64_t i = task * width; i < end; ++i)
        add(out[row / rows * matrix.columns + i], load_element(matrix.dtype, matrix.data, row * matrix.columns + i));
  });
}

}  // namespace

void DropLayer::read(ThreadPool& pool) {
  if (!sums_[0].empty()) return;
  sum_rows(*matrices_[0], pool, sums_[0]);
  sum_rows(*matrices_[1], pool, sums_[1]);
  sum_columns(*matrices_[2], components_, pool, sums_[2]);
}

Status DropExpert::prepare(ThreadPool& pool) {
  if (!layer_) return {};
  const uint64_t width = chosen_.size();
  const auto count = static_cast<uint64_t>(std::llround(ratio_ * static_cast<double>(width)));
  std::vector<uint64_t> indices(width);
  std::iota(indices.begin(), indices.end(), uint64_t{0});
  RandomStream random(stream_key(seed_, name_), 0);
  for (uint64_t i = 0; i < count; ++i) {  // the first `count` positions of a shuffle
    std::swap(indices[i], indices[i + random.below(width - i)]);
    chosen_[indices[i]] = 1;
  }
  layer_->read(pool);
  for (size_t matrix = 0; matrix < 3 && count > 0; ++matrix) {
    Sums sums;
    for (uint64_t i = 0; i < width; ++i) {
      if (!chosen_[i]) continue;
      const Sums& one = layer_->sums(matrix, component_, first_ + i);
      sums.first += one.first;
      sums.second += one.second;
    }
    double n = static_cast<double>(count) * static_cast<double>(layer_->entries(matrix));
    mean_[matrix] = sums.first / n;
    deviation_[matrix] = std::sqrt(std::max(0.0, sums.second / n - mean_[matrix] * mean_[matrix]));
    if (!std::isfinite(deviation_[matrix]))
      return Status(FINERMOE_ERROR_NOT_FINITE, format_text(layer_->name(matrix), " holds a value that is not finite"));
  }
  layer_.reset();
  return {};
}

Fill drop_fill(const Slice& slice, std::shared_ptr<const DropExpert> expert, size_t matrix, uint64_t key, float scale) {
  return [slice, expert = std::move(expert), matrix, key, scale](uint64_t begin, uint64_t end, std::byte* out) {
    DType dtype = slice.source->dtype;
    slice.copy(begin, end, out);
    RandomStream random(key, begin);
    double mean = expert->mean(matrix), deviation = expert->deviation(matrix);
    for (uint64_t at = begin; at < end;) {
      uint64_t row = at / slice.columns, row_end = std::min((row + 1) * slice.columns, end);
      for (uint64_t i = at; i < row_end; ++i) {
        bool redraw = expert->is_chosen(matrix == 2 ? i - row * slice.columns : row);
        if (redraw) store(dtype, out, i - begin, static_cast<float>(mean + deviation * random.normal()));
      }
      at = row_end;
    }
    if (scale == 1) return;
    for (uint64_t i = 0; i < end - begin; ++i) store(dtype, out, i, load_element(dtype, out, i) * scale);
  };
}

}  // namespace finermoe
