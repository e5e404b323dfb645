// Drop-Upcycling (arXiv 2502.19261): a fraction of each expert's intermediate indices is redrawn from a normal
// distribution with the mean and standard deviation that the chosen entries of the matrix had.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "convert/fill.h"

namespace finermoe {

// The FFN of a dense layer, and sums over its entries; kept until the last expert of the layer has what it needs.
class DropLayer {
 public:
  struct Sums {
    double first = 0, second = 0;  // of the entries and of their squares
  };
  // gate, up: [intermediate, hidden]; down: [hidden, intermediate], in `components` equal parts of its rows
  DropLayer(const Tensor& gate, const Tensor& up, const Tensor& down, uint64_t components)
      : matrices_{&gate, &up, &down}, components_(components) {}
  // Reads the matrices once, summing in a fixed order.
  void read(ThreadPool& pool);
  // Of row `index` of gate (0) and up (1), of the component's part of column `index` of down (2).
  const Sums& sums(size_t matrix, uint64_t component, uint64_t index) const {
    return sums_[matrix][(matrix == 2 ? component * matrices_[2]->columns : 0) + index];
  }
  // The number of entries in each of these sums.
  uint64_t entries(size_t matrix) const {
    return matrix == 2 ? matrices_[2]->rows / components_ : matrices_[matrix]->columns;
  }
  std::string_view name(size_t matrix) const { return matrices_[matrix]->name; }

 private:
  std::array<const Tensor*, 3> matrices_;
  uint64_t components_;
  std::array<std::vector<Sums>, 3> sums_;
};

// What is redrawn in one expert; its three tensors share it.
class DropExpert {
 public:
  // The expert that has the intermediate indices [first, first + width). `name` identifies its random stream.
  DropExpert(std::shared_ptr<DropLayer> layer, std::string name, uint64_t seed, uint64_t component, uint64_t first,
             uint64_t width, double ratio)
      : layer_(std::move(layer)),
        name_(std::move(name)),
        seed_(seed),
        component_(component),
        first_(first),
        chosen_(width),
        ratio_(ratio) {}
  Status prepare(ThreadPool& pool);
  bool is_chosen(uint64_t index) const { return chosen_[index]; }
  double mean(size_t matrix) const { return mean_[matrix]; }
  double deviation(size_t matrix) const { return deviation_[matrix]; }

 private:
  std::shared_ptr<DropLayer> layer_;  // null once prepared
  std::string name_;
  uint64_t seed_, component_, first_;
  std::vector<uint8_t> chosen_;  // [width]
  double ratio_;
  std::array<double, 3> mean_{}, deviation_{};  // of gate, up, down
};

// The slice with its chosen rows (gate 0, up 1) or columns (down 2) redrawn, then all multiplied by `scale`.
Fill drop_fill(const Slice& slice, std::shared_ptr<const DropExpert> expert, size_t matrix, uint64_t key, float scale);

}  // namespace finermoe
