#include "cuda/blas.h"

#include "base/shared_library.h"

namespace finermoe::cuda {
namespace {

bool find_all(Blas& blas, const SharedLibrary& library) {
  FunctionsOf functions(library);
  functions.fill(blas.create, "cublasLtCreate");
  functions.fill(blas.destroy, "cublasLtDestroy");
  functions.fill(blas.create_product, "cublasLtMatmulDescCreate");
  functions.fill(blas.destroy_product, "cublasLtMatmulDescDestroy");
  functions.fill(blas.set_product, "cublasLtMatmulDescSetAttribute");
  functions.fill(blas.create_layout, "cublasLtMatrixLayoutCreate");
  functions.fill(blas.destroy_layout, "cublasLtMatrixLayoutDestroy");
  functions.fill(blas.create_preference, "cublasLtMatmulPreferenceCreate");
  functions.fill(blas.destroy_preference, "cublasLtMatmulPreferenceDestroy");
  functions.fill(blas.set_preference, "cublasLtMatmulPreferenceSetAttribute");
  functions.fill(blas.find_algorithms, "cublasLtMatmulAlgoGetHeuristic");
  functions.fill(blas.multiply, "cublasLtMatmul");
  return functions.missing() == nullptr;
}

}  // namespace

std::shared_ptr<const Blas> load_blas(const std::vector<std::string>& libraries) {
  for (const std::string& library : libraries) {
    const auto opened = SharedLibrary::open(library);
    if (!opened.ok()) continue;
    auto blas = std::make_shared<Blas>();
    if (find_all(*blas, *opened)) return blas;
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
