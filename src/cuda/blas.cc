#include "cuda/blas.h"

#include <dlfcn.h>

#include "base/shared_library.h"

namespace finermoe::cuda {
namespace {

template <class Find>
bool find_all(Blas& blas, const Find& find) {
  bool is_whole = true;
  const auto fill = [&]<class Function>(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(find(name));
    is_whole = is_whole && function != nullptr;
  };
  fill(blas.create, "cublasLtCreate");
  fill(blas.destroy, "cublasLtDestroy");
  fill(blas.create_product, "cublasLtMatmulDescCreate");
  fill(blas.destroy_product, "cublasLtMatmulDescDestroy");
  fill(blas.set_product, "cublasLtMatmulDescSetAttribute");
  fill(blas.create_layout, "cublasLtMatrixLayoutCreate");
  fill(blas.destroy_layout, "cublasLtMatrixLayoutDestroy");
  fill(blas.create_preference, "cublasLtMatmulPreferenceCreate");
  fill(blas.destroy_preference, "cublasLtMatmulPreferenceDestroy");
  fill(blas.set_preference, "cublasLtMatmulPreferenceSetAttribute");
  fill(blas.find_algorithms, "cublasLtMatmulAlgoGetHeuristic");
  fill(blas.multiply, "cublasLtMatmul");
  return is_whole;
}

}  // namespace

std::shared_ptr<const Blas> load_blas(const std::vector<std::string>& libraries) {
  for (const std::string& library : libraries) {
    void* const opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (opened == nullptr) continue;
    auto blas = std::make_shared<Blas>();
    const bool is_whole = find_all(*blas, [&](const char* name) { return dlsym(opened, name); });
    dlclose(opened);  // it stays loaded: RTLD_NODELETE
    if (is_whole) return blas;
  }
  return nullptr;
}

std::shared_ptr<const Blas> load_blas() {
  constexpr const char* name = "libcublasLt.so.13";
  std::vector<std::string> libraries{name};
  static const char here = 0;
  if (const std::string folder = folder_of_code(&here); !folder.empty()) libraries.push_back(folder + "/" + name);
  return load_blas(libraries);
}

}  // namespace finermoe::cuda
