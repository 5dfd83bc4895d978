// Runs every CUDA kernel through the shim, over shapes around its blocks, in buffers of exactly the
// size that it may touch: a program for the address and undefined-behaviour sanitizers. Argument
// "overrun": once with a buffer that is too short, which has to end it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "contrastive_cuda.h"
#include "device.h"
#include "xtr_cuda.h"

namespace {

using ems::Queue;
std::int64_t checked = 0;

// Exactly `size` elements on the heap; std::vector<bool> and its spare capacity do not do.
template <typename T>
struct Buffer {
  std::unique_ptr<T[]> data;
  explicit Buffer(std::int64_t size, T value = T()) : data(new T[size]) {
    for (std::int64_t i = 0; i < size; ++i) data[i] = value;
  }
  operator T*() { return data.get(); }
};

double uniform() { return std::rand() / (RAND_MAX + 1.0) * 2 - 1; }

template <typename T>
void fill(Buffer<T>& buffer, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) buffer[i] = static_cast<T>(uniform());
}

void require(bool condition, const char* what) {
  ++checked;
  if (condition) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::exit(2);
}

template <typename T>
void contrastive(std::int64_t B, std::int64_t M, std::int64_t E, bool bounded, bool overrun) {
  const ems::TilePlace place{0, B, 0, M, M + 3};
  // The last row of a tile ends with its last column.
  const std::int64_t tile_size = B ? (B - 1) * place.stride + M - (overrun ? 1 : 0) : 0;
  Buffer<T> x(M * E), unit(M * E), norm(M), tile(tile_size), positive(B), grad_loss(B, T(1));
  Buffer<T> workspace(ems::cuda::accumulate_workspace_size(B, M));
  Buffer<T> row_max(B, T(-2)), column_max(M, T(-2)), row_weight(B), column_weight(M);
  Buffer<double> row_sum(B), column_sum(M), k(1, 10.0), along(1), dots(M);
  Buffer<std::int64_t> ids(M);
  for (std::int64_t j = 0; j < M; ++j) ids[j] = j % 5;
  fill(x, M * E);
  for (std::int64_t r = 0; r < B; ++r)
    for (std::int64_t c = 0; c < M - (overrun && r + 1 == B ? 1 : 0); ++c)
      tile[r * place.stride + c] = static_cast<T>(uniform());
  T* const rows = bounded ? nullptr : static_cast<T*>(row_max);
  T* const columns = bounded ? nullptr : static_cast<T*>(column_max);
  const ems::cuda::PairIds pairs{ids, nullptr};
  ems::cuda::normalise<T>(unit, norm, x, M, E, 1e-12, Queue{});
  ems::cuda::accumulate<T>(row_sum, column_sum, rows, columns, positive, tile, workspace, k, pairs,
                           place, true, Queue{});
  ems::cuda::finish<T>(positive, row_sum, column_sum, rows, columns, k, B, Queue{});
  ems::cuda::weigh<T>(row_weight, column_weight, row_sum, column_sum, grad_loss, k, B, M, Queue{});
  ems::cuda::gradient<T>(tile, tile, row_weight, column_weight, rows, columns, grad_loss, k, k,
                         pairs, place, true, Queue{});
  Buffer<double> row_count(B), column_count(M), left(B);
  ems::cuda::gather_positives<T>(tile, row_sum, row_count, column_sum, column_count, k, pairs,
                                 place, 0.1, Queue{});
  ems::cuda::pull_positives<T>(tile, left, row_weight, column_weight, pairs, place, Queue{});
  ems::cuda::normalise_backward<T>(x, along, dots, unit, norm, M, E, 1e-12, Queue{});
  for (std::int64_t i = 0; i < B; ++i) require(positive[i] > -1e-5, "a loss is not negative");
}

template <typename T>
void xtr(ems::cuda::Dtype dtype, std::int64_t B, std::int64_t D, std::int64_t n) {
  using S = std::conditional_t<sizeof(T) == 8, double, float>;
  const bool wide = sizeof(S) == 8;
  const std::int64_t K = 3 * B;
  Buffer<T> z(n * B), weight(n * D);
  for (std::int64_t i = 0; i < n * B; ++i) ems::narrow(z[i], static_cast<S>(uniform()));
  for (std::int64_t i = 0; i < n * D; ++i) ems::narrow(weight[i], static_cast<S>(uniform()));
  Buffer<S> shift(B, S(-INFINITY)), rescale(B), out(B * D), hidden(B * D, S(1));
  Buffer<S> partial(ems::cuda::softmax_workspace_size(n, B)), values(K, S(0.5)), grad(n * D);
  Buffer<S> one(1, S(2));
  Buffer<double> total(B), mass(B), entropy(B);
  Buffer<std::int64_t> indptr(B + 1), indices(K), ends(K), rows(K);
  Buffer<float> q(K, 0.5f);
  for (std::int64_t b = 0; b <= B; ++b) indptr[b] = 3 * b;
  for (std::int64_t i = 0; i < K; ++i) {  // sorted by word
    indices[i] = i * n / K;
    rows[i] = i % B;
  }
  for (std::int64_t i = K - 1; i >= 0; --i)
    ends[i] = i + 1 < K && indices[i + 1] == indices[i] ? ends[i + 1] : i + 1;
  ems::cuda::softmax(z, shift, total, rescale, partial, dtype, n, B, Queue{});
  for (std::int64_t b = 0; b < B; ++b) {
    double sum = 0;
    for (std::int64_t v = 0; v < n; ++v) sum += ems::widen(z[v * B + b]);
    require(std::fabs(sum / total[b] - 1) < 4e-3, "exponentials add up to their total");
  }
  ems::cuda::probabilities(z, shift, dtype, n, B, Queue{});
  ems::cuda::gather(out, mass, entropy, indptr, indices, q, weight, dtype, B, D, n, K, Queue{});
  for (std::int64_t b = 0; b < B; ++b) require(mass[b] == 1.5, "three entries of one half");
  ems::cuda::accumulate(out, hidden, one, wide, true, B * D, Queue{});
  if (K > 0) ends[K - 1] = K + 1000;  // and what is not there is not read
  // Words in two chunks, so that the first must leave the second's alone.
  const std::int64_t first = n / 2;
  ems::cuda::scatter(grad, indices, ends, rows, values, shift, hidden, wide, 0, first, B, D, K,
                     Queue{});
  ems::cuda::scatter(grad + first * D, indices, ends, rows, values, shift, hidden, wide, first,
                     n - first, B, D, K, Queue{});
}

}  // namespace

int main(int count, char**) {
  if (count > 1) {
    contrastive<float>(33, 65, 4, true, true);
    return 0;
  }
  using ems::cuda::Dtype;
  ems::shim::Machine::instance().seed(1);
  for (std::int64_t B : {0, 1, 33, 65})
    for (bool bounded : {false, true}) {
      contrastive<float>(B, B + 64, 33, bounded, false);
      contrastive<double>(B, B, 1, bounded, false);
    }
  const std::int64_t sizes[][3] = {{1, 1, 1}, {31, 1, 127}, {33, 257, 129}, {66, 2, 128}};
  for (const auto& [B, D, n] : sizes) {
    xtr<float>(Dtype::float32, B, D, n);
    xtr<double>(Dtype::float64, B, D, n);
    xtr<__nv_bfloat16>(Dtype::bfloat16, B, D, n);
    xtr<__half>(Dtype::float16, B, D, n);
  }
  std::printf("checked %lld\n", static_cast<long long>(checked));
}
