// Runs every CPU kernel on several threads, for each instruction set of this processor, over shapes
// around its blocks, in buffers of exactly the size that it may touch: a program for the sanitizers
// and for valgrind. Prints how many checks were made. Arguments: the number of threads, or "race",
// which has threads write the same number, as the thread sanitizer has to find.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "align.h"
#include "bag_of_words.h"
#include "contrastive.h"
#include "encoding/pooling.h"
#include "gemm.h"
#include "isa.h"
#include "table.h"
#include "xtr.h"

namespace {

using Size = std::int64_t;
Size checks = 0;
int threads = 4;

// Exactly `size` elements on the heap.
template <typename T>
struct Buffer {
  std::unique_ptr<T[]> data;
  explicit Buffer(Size size, T value = T()) : data(new T[size]) {
    for (Size i = 0; i < size; ++i) data[i] = value;
  }
  operator T*() { return data.get(); }
};

double uniform() { return std::rand() / (RAND_MAX + 1.0) * 2 - 1; }

template <typename T>
Buffer<T> filled(Size size) {
  Buffer<T> made(size);
  for (Size i = 0; i < size; ++i) made[i] = static_cast<T>(uniform());
  return made;
}

void require(bool condition, const char* what) {
  ++checks;
  if (condition) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::exit(2);
}

struct Groups {
  Buffer<std::int32_t> memory;
  Size M;
  Groups(Size M, Size different) : memory(3 * M), M(M) {
    Buffer<Size> ids(M);
    for (Size j = 0; j < M; ++j) ids[j] = j % different;
    found = ems::group_duplicates(memory, memory + M, memory + 2 * M, ids, M);
  }
  bool found;
  operator ems::DuplicateGroups() {
    if (!found) return {};
    return {memory, memory + M, memory + 2 * M};
  }
};

template <typename T>
void contrastive(Size B, Size M, Size E, bool bounded) {
  const auto& kernels = ems::contrastive_kernels<T>();
  const ems::TilePlace place{0, B, 0, M, M + 3};
  auto x = filled<T>(M * E);
  Buffer<T> unit(M * E), norm(M);
  kernels.normalise(unit, norm, x, M, E, 1e-12, threads);
  // The last row of a tile ends with its last column.
  auto tile = filled<T>((B - 1) * place.stride + M);
  Buffer<T> positive(B), row_max(B, T(-2)), column_max(M, T(-2)), grad_loss(B, T(1));
  Buffer<T> row_weight(B), column_weight(M);
  Buffer<T> workspace(ems::accumulate_workspace_size(B, M, bounded));
  Buffer<double> row_sum(B), column_sum(M), row_count(B), column_count(M), along(B);
  T* const rows = bounded ? nullptr : static_cast<T*>(row_max);
  T* const columns = bounded ? nullptr : static_cast<T*>(column_max);
  Groups sources(M, 5), targets(M, M);
  kernels.accumulate(row_sum, column_sum, rows, columns, positive, tile, workspace, sources,
                     targets, place, 10.0, true, threads);
  kernels.finish(positive, row_sum, column_sum, rows, columns, B, 10.0);
  for (Size i = 0; i < B; ++i) require(positive[i] > -1e-5, "a loss is not negative");
  kernels.weigh(row_weight, column_weight, row_sum, column_sum, grad_loss, B, M, 10.0);
  kernels.gradient(tile, tile, row_weight, column_weight, rows, columns, grad_loss, sources,
                   targets, place, 10.0, 10.0, true, threads);
  auto other = filled<T>((B - 1) * place.stride + M);
  kernels.gather_positives(other, row_sum, row_count, column_sum, column_count, sources, targets,
                           place, 0.1, 0.5, threads);
  kernels.pull_positives(other, along, row_weight, column_weight, sources, targets, place, threads);
  kernels.normalise_backward(x, unit, norm, M, E, 1e-12, threads);
}

template <typename T, typename S>
void xtr(ems::Dtype dtype, Size B, Size D, Size n) {
  const auto& table = ems::active_xtr_table();
  const auto& kernels = table.kernels[static_cast<int>(dtype)];
  const Size K = 3 * B;
  Buffer<T> z(n * B), weight(n * D);  // zeros are numbers of every dtype
  Buffer<S> shift(B, S(-INFINITY)), rescale(B), out(B * D), grad(n * D), values(K), scale(B, S(2));
  auto hidden = filled<S>(B * D);
  Buffer<double> total(B), mass(B), entropy(B);
  Buffer<Size> indptr(B + 1), indices(K), words(n + 1);
  Buffer<std::int32_t> rows(K);
  Buffer<float> q(K, 0.5f);
  for (Size b = 0; b <= B; ++b) indptr[b] = 3 * b;
  for (Size i = 0; i < K; ++i) indices[i] = (i % 3) * (n / 3);
  require(ems::is_bag_of_words(indptr, indices, q, B, n, K) == (n >= 3), "bags are recognised");
  kernels.softmax(z, shift, total, rescale, n, B, threads);
  for (Size b = 0; b < B; ++b) require(total[b] == n, "n exponentials of zero");
  kernels.probabilities(z, shift, n, B, threads);
  kernels.gather(out, mass, entropy, indptr, indices, q, weight, B, D, threads);
  for (Size b = 0; b < B; ++b) require(mass[b] == 1.5, "three entries of one half");
  kernels.accumulate(out, hidden, true, B * D, threads);
  ems::xtr_transpose<S>(words, rows, values, indptr, indices, q, B, n);
  if constexpr (sizeof(S) == 8)
    table.scatter.float64(grad, words, rows, values, scale, hidden, n, D, threads);
  else
    table.scatter.float32(grad, words, rows, values, scale, hidden, n, D, threads);
}

void gemm(Size M, Size N, Size K) {
  const auto& table = ems::active_gemm_table();
  for (const bool rounded : {false, true}) {
    if (rounded ? !ems::has_rounded_gemm() : !table.fast) continue;
    const auto& products = rounded ? table.rounded : table.exact;
    auto a = filled<float>(M * K), b = filled<float>(K * N), across = filled<float>(K * M);
    Buffer<float> packed(products.packed_size(K, N)), c(M * N), expected(M * N);
    for (const bool transposed : {false, true}) {
      products.pack(packed, b, transposed ? K : N, transposed, K, N, threads);
      products.multiply(c, N, a, K, packed, M, N, K, transposed, threads);
    }
    products.multiply_transposed(c, N, across, M, b, N, M, N, K, false, threads);
    for (Size m = 0; m < M; ++m)
      for (Size k = 0; k < K; ++k)
        for (Size n = 0; n < N; ++n) expected[m * N + n] += across[k * M + m] * b[k * N + n];
    for (Size i = 0; i < M * N; ++i)
      require(std::fabs(c[i] - expected[i]) < (rounded ? 0.5 : 1e-3), "a product");
  }
  if (table.fast) {
    auto weight = filled<float>(M * K), hidden = filled<float>(K * N);
    Buffer<float> packed(table.exact.packed_size(K, N)), e(M * N), shift(N, float(K));
    Buffer<double> total(N);
    table.exact.pack(packed, hidden, N, false, K, N, threads);
    ems::active_xtr_table().exponentials(e, weight, packed, shift, total, M, N, K, threads);
  }
}

void adagrad(Size V, Size D) {
  auto table = filled<float>(V * D), gradient = filled<float>(V * D);
  Buffer<float> sums(V);
  Buffer<Size> rows(V);
  for (Size i = 0; i < V; ++i) rows[i] = V - 1 - i;
  const auto run = ems::active_table_kernels().adagrad;
  require(run(table, sums, rows, gradient, V, D, V, {0.1f, 1e-8f, 0.01f}, threads), "a step");
  rows[V / 2] = V;
  require(!run(table, sums, rows, gradient, V, D, V, {0.1f, 1e-8f, 0.01f}, threads), "no row V");
}

void align(Size L, Size R, Size D, Size S) {
  const auto side = [&](Size lines) {
    auto vectors = filled<float>(S * lines * D);
    for (Size r = 0; r < S * lines; ++r) {
      double square = 0;
      for (Size d = 0; d < D; ++d) square += vectors[r * D + d] * vectors[r * D + d];
      for (Size d = 0; d < D; ++d) vectors[r * D + d] /= static_cast<float>(std::sqrt(square));
    }
    return vectors;
  };
  auto source = side(L), target = side(R);
  Buffer<float> near_source(S * L, 1.0f), near_target(S * R, 1.0f), no_source(S * L),
      no_target(S * R);
  Buffer<Size> begins(L + 1), offsets(L + 2), source_ends(L + R + 1), target_ends(L + R + 1);
  for (Size i = 0; i <= L + 1; ++i) offsets[i] = i * (R + 1);
  Buffer<double> total(1);
  const Size corners =
      ems::align_path(source_ends, target_ends, total, {source, near_source, no_source, L},
                      {target, near_target, no_target, R}, {begins, offsets}, S, D, 0.3, threads);
  require(corners >= 2 && source_ends[corners - 1] == 0 && source_ends[0] == L, "a whole path");
}

void pooling(Size B, Size V, Size D, Size K, ems::RowType type) {
  const Size bytes[] = {4 * D, 2 * D, D, D / 2};
  Buffer<unsigned char> rows((V + K) * bytes[static_cast<int>(type)]);
  Buffer<float> scales(V + K, 0.5f), out(B * D);
  Buffer<Size> keys(K), begins(V + 1), ids(4 * B), starts(B), lengths(B);
  for (Size k = 0; k < K; ++k) keys[k] = k * V + k;  // a token twice
  for (Size v = 0; v <= V; ++v) begins[v] = v < K ? v : K;
  for (Size i = 0; i < 4 * B; ++i) ids[i] = (i / 2) % V;
  for (Size i = 0; i < B; ++i) starts[i] = 4 * i, lengths[i] = i % 5;
  const ems::TokenTable table{rows, scales, type, V + K, D};
  const ems::Phrases phrases{keys, begins, V, K};
  const ems::Sentences sentences{ids, starts, lengths, B};
  for (const bool normalize : {false, true})
    require(ems::means(out, table, phrases, sentences, D, normalize, threads), "means");
  ids[0] = V;
  lengths[0] = 1;
  require(!ems::means(out, table, phrases, sentences, D, false, threads), "no token V");
}

void bags(Size B, Size T) {
  Buffer<std::int32_t> ids(B * T);
  Buffer<Size> indptr(B + 1), indices(B * T), begins(B), lengths(B, T);
  Buffer<float> weights(B * T);
  for (Size i = 0; i < B * T; ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 11);
  for (Size b = 0; b < B; ++b) begins[b] = b * T;
  for (int weighting = 0; weighting < ems::weighting_count; ++weighting)
    require(ems::bag_of_words<std::int32_t>(indptr, indices, weights, ids, begins, lengths, 0, B,
                                            11, static_cast<ems::Weighting>(weighting))
                    .entries >= 0,
            "bags");
}

void all() {
  for (const Size B : {1, 3, 65, 130})
    for (const Size E : {1, 7, 32}) {
      for (const bool bounded : {true, false}) {
        contrastive<float>(B, B + 5, E, bounded);
        contrastive<double>(B, B, E, bounded);
      }
      xtr<float, float>(ems::Dtype::float32, B, E, 3 * E + 6);
      xtr<double, double>(ems::Dtype::float64, B, E, 300);
      xtr<std::uint16_t, float>(ems::Dtype::bfloat16, B, E, 33);
      gemm(B, E + 9, 2 * E + 1);
      adagrad(B + 1, E);
      bags(B, E);
    }
  gemm(300, 130, 70);
  // Beyond what is done on one thread.
  contrastive<float>(200, 400, 300, true);
  contrastive<double>(200, 400, 300, false);
  xtr<float, float>(ems::Dtype::float32, 600, 500, 60);
  for (const Size L : {1, 5, 40})
    for (const Size S : {1, 4}) align(L, L + 3, 17, S);
  for (int type = 0; type < ems::row_type_count; ++type)
    for (const Size K : {0, 3}) pooling(1100, 9, 34, K, static_cast<ems::RowType>(type));
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "race") == 0) {
    int shared = 0;
#pragma omp parallel for num_threads(4)
    for (int i = 0; i < 1000; ++i) shared = shared + i;
    return shared < 0;
  }
  if (count > 1) threads = std::atoi(arguments[1]);
  for (const auto isa : {ems::Isa::baseline, ems::Isa::avx2, ems::Isa::avx512})
    if (ems::isa_available(isa)) {
      ems::set_active_isa(isa);
      all();
    }
  std::printf("%lld checks\n", static_cast<long long>(checks));
}
