#include "cuda/blas_products.h"

#include <algorithm>
#include <iterator>

#include "base/process_mark.h"

namespace finermoe::cuda {
namespace {

constexpr size_t most_plans = 256;  // then all are forgotten: the last chunks of prompts are of any length
constexpr uint32_t alignment = 16;  // of matrices

}  // namespace

bool is_for_blas(const Linear& task) {
  const Matrix& weight = task.weight;
  const auto is_placed = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % alignment == 0; };
  return task.n >= least_blas_vectors && (weight.dtype == DType::bf16 || weight.dtype == DType::f16) &&
         uint64_t{weight.rows} * weight.columns >= least_blas_elements && weight.columns % 8 == 0 &&
         is_placed(weight.data) && is_placed(task.operands) && is_placed(task.out);
}

std::unique_ptr<const BlasLibrary> BlasLibrary::start(std::shared_ptr<const Blas> blas) {
  Blas::Handle handle = nullptr;
  if (blas == nullptr || blas->create(&handle) != blas_success) return nullptr;
  return std::unique_ptr<const BlasLibrary>(new BlasLibrary(std::move(blas), handle));
}

BlasLibrary::~BlasLibrary() { blas_->destroy(handle_); }

// How the products of one shape are computed. cuBLASLt counts matrices by columns: to it, our rows are the columns of a
// transposed matrix, and out^T = W x^T.
class BlasProducts::Plan {
 public:
  Plan(const BlasLibrary& library, const Linear& task) : table_(library.functions()), blas_(*table_) {
    const Matrix& weight = task.weight;
    const int type = weight.dtype == DType::bf16 ? blas_bf16 : blas_f16;
    is_usable_ =
        blas_.create_product(&product_, blas_compute_f32, blas_f32) == blas_success &&
        blas_.set_product(product_, blas_transpose_a, &blas_is_transposed, sizeof blas_is_transposed) == blas_success &&
        blas_.create_layout(&weights_, type, weight.columns, weight.rows, weight.columns) == blas_success &&
        blas_.create_layout(&vectors_, type, weight.columns, task.n, operand_stride(weight.columns)) == blas_success &&
        blas_.create_layout(&out_, blas_f32, weight.rows, task.n, weight.rows) == blas_success && choose(library);
  }
  Plan(const Plan&) = delete;
  ~Plan() {
    if (mark_.is_inherited()) return;  // a child of fork() calls nothing of it
    if (out_ != nullptr) blas_.destroy_layout(out_);
    if (vectors_ != nullptr) blas_.destroy_layout(vectors_);
    if (weights_ != nullptr) blas_.destroy_layout(weights_);
    if (product_ != nullptr) blas_.destroy_product(product_);
  }
  bool multiply(const BlasLibrary& library, void* stream, const Linear& task, void* workspace) const {
    const float alpha = 1, beta = task.accumulate ? 1 : 0;
    return is_usable_ && blas_.multiply(library.handle(), product_, &alpha, task.weight.data, weights_, task.operands,
                                        vectors_, &beta, task.out, out_, task.out, out_, &algorithm_, workspace,
                                        blas_workspace_bytes, stream) == blas_success;
  }

 private:
  // The algorithm that cuBLASLt expects to be the fastest of those that do not add parts of a sum from memory.
  bool choose(const BlasLibrary& library) {
    Blas::Preference preference = nullptr;
    if (blas_.create_preference(&preference) != blas_success) return false;
    const auto prefer = [&](int attribute, const auto& value) {
      return blas_.set_preference(preference, attribute, &value, sizeof value) == blas_success;
    };
    BlasHeuristic best{};
    int n_found = 0;
    const bool is_found = prefer(blas_most_workspace, blas_workspace_bytes) &&
                          prefer(blas_reductions, blas_no_reductions) &&
                          std::all_of(std::begin(blas_alignments), std::end(blas_alignments),
                                      [&](int of) { return prefer(of, alignment); }) &&
                          blas_.find_algorithms(library.handle(), product_, weights_, vectors_, out_, out_, preference,
                                                1, &best, &n_found) == blas_success &&
                          n_found == 1 && best.state == blas_success;
    blas_.destroy_preference(preference);
    algorithm_ = best.algorithm;
    return is_found;
  }

  const ProcessMark mark_;
  const std::shared_ptr<const Blas> table_;
  const Blas& blas_;
  bool is_usable_ = false;
  Blas::Product product_ = nullptr;
  Blas::Layout weights_ = nullptr, vectors_ = nullptr, out_ = nullptr;
  BlasAlgorithm algorithm_{};
};

bool BlasProducts::multiply(const BlasLibrary& library, void* stream, const Linear& task, void* workspace) {
  const Key key{task.weight.dtype, task.weight.rows, task.weight.columns, task.n};
  auto found = plans_.find(key);
  if (found == plans_.end()) {
    if (plans_.size() == most_plans) plans_.clear();
    found = plans_.emplace(key, std::make_shared<const Plan>(library, task)).first;
  }
  return found->second->multiply(library, stream, task, workspace);
}

}  // namespace finermoe::cuda
