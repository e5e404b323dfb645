// Each kernel of each instruction set against plain arithmetic in double precision.
#include <array>
#include <limits>

#include "support.h"

namespace finermoe {
namespace {

constexpr std::array all_dtypes = {DType::f32, DType::f16, DType::bf16};

class KernelsTest : public EveryIsa {};
FINERMOE_FOR_EVERY_ISA(KernelsTest);

constexpr std::array matrix_dtypes = {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4};

struct Vectors {
  std::vector<float> values;
  std::vector<float*> rows;
  const void* const* inputs() const { return reinterpret_cast<const void* const*>(rows.data()); }
  Vectors(std::vector<float> v, size_t n, size_t width) : values(std::move(v)) {
    for (size_t i = 0; i < n; i++) rows.push_back(values.data() + i * width);
  }
};

// A Matmul of float vectors or quantized ones. The scratch is as large as the kernels ask for, so that a sanitizer sees
// what is written beyond it.
void multiply(const Kernels& kernels, const void* const* x, Form form, const WeightView& w, const Vectors& out,
              bool accumulate, const Tuning& tuning = {}) {
  const size_t n = out.rows.size();
  std::vector<std::byte> scratch(kernels.matmul_scratch(n, w.columns));
  kernels.matmul({.x = x,
                  .form = form,
                  .out = out.rows.data(),
                  .n = n,
                  .weight = w.data.address(),
                  .dtype = w.dtype,
                  .rows = w.rows,
                  .columns = w.columns,
                  .accumulate = accumulate,
                  .scratch = scratch.data(),
                  .prefetch = tuning.prefetch,
                  .rows_side_by_side = tuning.rows_side_by_side});
}

std::vector<float> matmul(const Kernels& kernels, const RandomMatrix& weight, Vectors& x, size_t n,
                          const std::vector<float>* start) {
  const WeightView w = weight.view();
  Vectors out(start != nullptr ? *start : std::vector<float>(n * w.rows, NAN), n, w.rows);
  multiply(kernels, x.inputs(), Form::floats, w, out, start != nullptr);
  return out.values;
}

// Quantized rows, and the values that they stand for.
struct Quantized {
  std::vector<std::byte> bytes;
  std::vector<const void*> rows;
  std::vector<std::vector<float>> values;

  Quantized(const Kernels& kernels, const Vectors& x, Form form, size_t columns)
      : bytes(x.rows.size() * quantized_row_bytes(columns)) {
    const size_t blocks = blocks_of(columns);
    for (size_t i = 0; i < x.rows.size(); i++) {
      std::byte* row = bytes.data() + i * quantized_row_bytes(columns);
      kernels.quantize_activations(x.rows[i], form, columns, 0, columns, row);
      rows.push_back(row);
      const auto* codes = reinterpret_cast<const int8_t*>(row);
      const auto* scales = reinterpret_cast<const float*>(codes + blocks * block_columns);
      const auto* halves = reinterpret_cast<const uint16_t*>(row);
      for (size_t c = 0; c < columns; c++) {
        if (c == 0) values.emplace_back();
        values[i].push_back(form == Form::bf16 ? bf16_to_float(halves[c])
                                               : scales[c / block_columns] * float(codes[c]));
      }
    }
  }
};

// The forms in which a set of kernels takes activations, of any weights and any number of vectors.
std::vector<Form> quantized_forms(const Kernels& kernels) {
  std::vector<Form> forms;
  for (const Form form : {Form::bf16, Form::blocks}) {
    bool used = false;
    for (DType dtype : matrix_dtypes) {
      for (size_t n : {size_t{1}, matmul_max_vectors}) used = used || kernels.fast_form(dtype, n, true) == form;
    }
    if (used) forms.push_back(form);
  }
  return forms;
}

TEST_P(KernelsTest, QuantizedActivationsAreClose) {
  for (const Form form : quantized_forms(kernels())) {
    for (size_t columns : {1, 31, 32, 280, 801}) {
      Vectors x(random_floats(2 * columns, 12), 2, columns);
      x.rows[1][columns / 2] = 40;
      const Quantized quantized(kernels(), x, form, columns);
      for (size_t i = 0; i < 2; i++) {
        for (size_t c = 0; c < columns; c++) {
          float max_abs = 0;  // of the block; the error is half a step, of at most a 124th of it
          for (size_t k = c / 32 * 32; k < std::min(columns, c / 32 * 32 + 32); k++) {
            max_abs = std::max(max_abs, std::fabs(x.rows[i][k]));
          }
          const float bound = form == Form::bf16 ? std::fabs(x.rows[i][c]) / 256 : max_abs / 247;
          ASSERT_NEAR(x.rows[i][c], quantized.values[i][c], bound) << columns << ", " << c;
        }
      }
    }
  }
}

// A row is the same in parts; NaN and infinity show; zeros stay zeros.
TEST_P(KernelsTest, ActivationsAreQuantizedInPartsAndKeepNanAndInfinity) {
  const size_t columns = 280, row_bytes = quantized_row_bytes(columns);
  Vectors x(random_floats(columns, 13), 1, columns);
  for (const Form form : quantized_forms(kernels())) {
    const size_t used = form == Form::bf16 ? row_bytes : blocks_of(columns) * (block_columns + 8);
    std::vector<std::byte> whole(row_bytes), parts(row_bytes);
    kernels().quantize_activations(x.rows[0], form, columns, 0, columns, whole.data());
    for (auto [begin, end] : {std::pair{96, 256}, {256, 280}, {0, 96}}) {
      kernels().quantize_activations(x.rows[0] + begin, form, columns, size_t(begin), size_t(end), parts.data());
    }
    EXPECT_EQ(0, std::memcmp(whole.data(), parts.data(), used));
  }
  const RandomMatrix weight(DType::q8, 16, columns, 14);
  for (float bad : {NAN, INFINITY, -INFINITY, 0.0f}) {
    Vectors y(std::vector<float>(columns), 1, columns);
    y.rows[0][70] = bad;
    const Quantized quantized(kernels(), y, Form::blocks, columns);
    const Vectors out(std::vector<float>(16), 1, 16);
    multiply(kernels(), quantized.rows.data(), Form::blocks, weight.view(), out, false);
    for (float value : out.values) EXPECT_TRUE(bad == 0 ? value == 0 : std::isnan(value)) << bad;
  }
}

// The product where weights are multiplied as BF16, which those of a block format are rounded to.
std::vector<double> times_rounded(const RandomMatrix& weight, size_t rows, const std::vector<float>& x) {
  std::vector<double> product(rows);
  for (size_t i = 0; i < rows * x.size(); i++) {
    product[i / x.size()] += double(bf16_to_float(float_to_bf16(weight.values()[i]))) * double(x[i % x.size()]);
  }
  return product;
}

// The product with n quantized vectors, which is also added to what is there. `alone` are the outputs of the first
// vector, once they are known.
void check_product(const Kernels& kernels, const RandomMatrix& weight, size_t rows, size_t columns, size_t n,
                   std::vector<float>& alone) {
  SCOPED_TRACE(format_text(name_of(weight.view().dtype), " ", rows, " x ", columns, ", ", n, " vectors"));
  const Form form = kernels.fast_form(weight.view().dtype, n, true);
  if (form == Form::floats) return;
  const Vectors x(random_floats(n * columns, 2), n, columns);
  const Quantized quantized(kernels, x, form, columns);
  std::vector<double> product;
  for (const auto& row : quantized.values) {
    const std::vector<double> one = form == Form::bf16 ? times_rounded(weight, rows, row) : weight.times(row.data());
    product.insert(product.end(), one.begin(), one.end());
  }
  for (bool accumulate : {false, true}) {
    const std::vector<float> start = accumulate ? random_floats(n * rows, 3) : std::vector<float>(n * rows, NAN);
    const Vectors out(start, n, rows);
    multiply(kernels, quantized.rows.data(), form, weight.view(), out, accumulate);
    std::vector<double> expected = product;
    for (size_t i = 0; accumulate && i < expected.size(); i++) expected[i] += double(start[i]);
    expect_close(out.values.data(), expected, 4e-6);
    if (accumulate || form == Form::bf16) continue;
    if (n == 1) alone = out.values;
    ASSERT_EQ(0, std::memcmp(alone.data(), out.values.data(), alone.size() * sizeof(float)));
  }
}

TEST_P(KernelsTest, MatmulOfQuantizedVectors) {
  for (DType dtype : {DType::bf16, DType::q8, DType::q4}) {
    for (auto [rows, columns] : {std::pair{1, 1}, {3, 7}, {37, 24}, {152, 288}, {33, 280}, {5, 2801}, {70, 1387}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      std::vector<float> alone;
      for (size_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 31, 48, 49, 57, 130}) {
        check_product(kernels(), weight, size_t(rows), size_t(columns), n, alone);
      }
    }
  }
}

// More rows and columns than are multiplied at a time.
TEST_P(KernelsTest, MatmulOfALargeMatrix) {
  for (DType dtype : {DType::bf16, DType::q8, DType::q4}) {
    const RandomMatrix weight(dtype, 301, 3137, 1);
    std::vector<float> alone;
    for (size_t n : {1, 49}) check_product(kernels(), weight, 301, 3137, n, alone);
  }
}

// Panels that are read side by side, and those that are left over.
TEST_P(KernelsTest, MatmulOfPanelsSideBySide) {
  for (DType dtype : {DType::q8, DType::q4}) {
    for (auto [rows, columns] : {std::pair{301, 1093}, {64, 32}, {128, 900}, {63, 40}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (size_t n : {1, 2, 3, 4, 8, 13, 32}) {
        const Vectors x(random_floats(n * size_t(columns), 2), n, size_t(columns));
        const Quantized quantized(kernels(), x, Form::blocks, size_t(columns));
        const std::vector<float> start = random_floats(n * size_t(rows), 3);
        const Vectors apart(start, n, size_t(rows));
        multiply(kernels(), quantized.rows.data(), Form::blocks, weight.view(), apart, true);
        for (const size_t prefetch : {0, 6144}) {
          const Vectors out(start, n, size_t(rows));
          multiply(kernels(), quantized.rows.data(), Form::blocks, weight.view(), out, true,
                   {.prefetch = prefetch, .rows_side_by_side = true});
          EXPECT_EQ(0, std::memcmp(out.values.data(), apart.values.data(), out.values.size() * sizeof(float)))
              << name_of(dtype) << " " << rows << " x " << columns << ", " << n << " vectors";
        }
      }
    }
  }
}

TEST_P(KernelsTest, MatmulOfEveryTypeAndOddSize) {
  for (DType dtype : matrix_dtypes) {
    for (auto [rows, columns] : {std::pair{1, 1}, {3, 7}, {37, 24}, {64, 36}, {33, 280}, {5, 801}, {70, 387}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (size_t n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 17, 19, 24, 31, 40, 49, 57, 130}) {
        SCOPED_TRACE(format_text(name_of(dtype), " ", rows, " x ", columns, ", ", n, " vectors"));
        Vectors x(random_floats(n * columns, 2), n, columns);
        const std::vector<float> start = random_floats(n * rows, 3);
        std::vector<double> expected;
        for (float* row : x.rows) {
          const std::vector<double> product = weight.times(row);
          expected.insert(expected.end(), product.begin(), product.end());
        }
        expect_close(matmul(kernels(), weight, x, n, nullptr).data(), expected, 2e-6);
        for (size_t i = 0; i < expected.size(); i++) expected[i] += double(start[i]);
        expect_close(matmul(kernels(), weight, x, n, &start).data(), expected, 2e-6);
      }
    }
  }
}

// An output does not depend on its neighbours, so results do not depend on the division into tasks.
TEST_P(KernelsTest, MatmulGivesAnOutputTheSameBitsInAnyBlock) {
  const size_t rows = 75, columns = 397;
  const RandomMatrix weight(DType::bf16, rows, columns, 4);
  for (size_t n : {1, 5, 16, 17, 50}) {
    Vectors x(random_floats(n * columns, 5), n, columns);
    const std::vector<float> whole = matmul(kernels(), weight, x, n, nullptr);
    for (size_t first : {1, 13, 32, 70}) {
      const Vectors part(std::vector<float>(n * (rows - first)), n, rows - first);
      multiply(kernels(), x.inputs(), Form::floats, rows_of(weight.view(), first, rows - first), part, false);
      for (size_t i = 0; i < n; i++) {
        ASSERT_EQ(0, std::memcmp(part.rows[i], whole.data() + i * rows + first, (rows - first) * sizeof(float)))
            << n << " vectors, from row " << first;
      }
    }
  }
}

// Experts have their rows anywhere: an output has the bits that it has where rows lie side by side.
TEST_P(KernelsTest, MatmulOfScatteredVectors) {
  const size_t rows = 301, columns = 1632;
  for (DType dtype : matrix_dtypes) {
    const RandomMatrix weight(dtype, rows, columns, 4);
    for (size_t n : {3, 17, 40, 100}) {
      SCOPED_TRACE(format_text(name_of(dtype), ", ", n, " vectors"));
      const Form form = kernels().fast_form(dtype, n, true);
      const Vectors x(random_floats(n * columns, 5), n, columns), together(random_floats(n * rows, 6), n, rows);
      Vectors apart = together;
      for (size_t i = 0; i < n; i++) apart.rows[i] = apart.values.data() + i * rows;
      const Quantized quantized(kernels(), x, form == Form::floats ? Form::blocks : form, columns);
      std::vector<const void*> in =
          form == Form::floats ? std::vector<const void*>(x.inputs(), x.inputs() + n) : quantized.rows;
      multiply(kernels(), in.data(), form, weight.view(), together, true);
      std::reverse(in.begin(), in.end());
      std::reverse(apart.rows.begin(), apart.rows.end());
      multiply(kernels(), in.data(), form, weight.view(), apart, true);
      ASSERT_EQ(0, std::memcmp(apart.values.data(), together.values.data(), n * rows * sizeof(float)));
    }
  }
}

TEST_P(KernelsTest, WidenAndRoundToAreThePortableConversions) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<uint16_t>(i);
  for (DType dtype : {DType::f16, DType::bf16}) {
    std::vector<float> wide(all.size());
    kernels().widen(all.data(), dtype, all.size(), wide.data());
    for (size_t i = 0; i < all.size(); i++) {
      const float expected = dtype == DType::bf16 ? bf16_to_float(all[i]) : f16_to_float(all[i]);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(wide[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(expected), std::bit_cast<uint32_t>(wide[i])) << i;
      }
    }
    // Values between the representable ones, ties among them, subnormals, infinities and NaN.
    std::vector<float> values = random_floats(1003, 6, 100);
    for (float exponent = -150; exponent < 128; exponent++) values.push_back(std::exp2(exponent) * 1.00390625f);
    values.insert(values.end(), {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 65519.0f, 65520.0f, 1.0009765625f / 2,
                                 std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()});
    std::vector<uint16_t> rounded(values.size());
    kernels().round_to(values.data(), dtype, values.size(), rounded.data());
    for (size_t i = 0; i < values.size(); i++) {
      const uint16_t expected = dtype == DType::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
      ASSERT_EQ(expected, rounded[i]) << name_of(dtype) << " of " << values[i];
    }
  }
}

TEST_P(KernelsTest, RmsNorm) {
  for (DType dtype : all_dtypes) {
    for (size_t n : {1, 7, 36, 801, 1536}) {
      const RandomMatrix weight(dtype, n, 1, 7);
      std::vector<float> x = random_floats(n, 8, 3);
      double squares = 0;
      for (float value : x) squares += double(value) * double(value);
      std::vector<double> expected(n);
      for (size_t i = 0; i < n; i++) {
        expected[i] = double(x[i]) / std::sqrt(squares / double(n) + 1e-6) * double(weight.values()[i]);
      }
      kernels().rms_norm(x.data(), weight.view().data.address(), dtype, 1e-6f, n, x.data());  // in place
      expect_close(x.data(), expected, 1e-6);
    }
  }
}

TEST_P(KernelsTest, SiluMultiply) {
  for (size_t n : {1, 15, 280, 2001}) {
    std::vector<float> gate = random_floats(n, 9, 20), up = random_floats(n, 10);
    gate[0] = -200;  // e^200 is beyond float32
    std::vector<double> expected(n);
    for (size_t i = 0; i < n; i++) {
      expected[i] = 0.3 * double(gate[i]) / (1 + std::exp(-double(gate[i]))) * double(up[i]);
    }
    kernels().silu_multiply(gate.data(), up.data(), 0.3f, n);
    for (size_t i = 0; i < n; i++) ASSERT_NEAR(gate[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-30);
  }
  std::vector<float> gate = {NAN}, up = {1};
  kernels().silu_multiply(gate.data(), up.data(), 1, 1);
  EXPECT_TRUE(std::isnan(gate[0]));
}

TEST_P(KernelsTest, Rotate) {
  for (size_t half : {1, 4, 32, 37, 64}) {
    std::vector<float> x = random_floats(2 * half, 11), cos(half), sin(half);
    std::vector<double> expected(2 * half);
    for (size_t i = 0; i < half; i++) {
      const double angle = 0.37 * double(i + 1);
      cos[i] = float(std::cos(angle)), sin[i] = float(std::sin(angle));
      expected[i] = double(x[i]) * std::cos(angle) - double(x[half + i]) * std::sin(angle);
      expected[half + i] = double(x[half + i]) * std::cos(angle) + double(x[i]) * std::sin(angle);
    }
    kernels().rotate(x.data(), cos.data(), sin.data(), half);
    expect_close(x.data(), expected, 1e-6);
  }
}

}  // namespace
}  // namespace finermoe
