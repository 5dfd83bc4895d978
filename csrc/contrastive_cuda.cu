#include "contrastive_cuda.h"

#include "device.h"

namespace ems {
namespace cuda {
namespace {

// A block of warps works on a patch of the tile, 64 rows by 64 columns. A warp takes every eighth
// row and a lane two columns 32 apart: each access of a warp is one full line of memory, whatever
// the tile's alignment. A row's sum is taken across the warp by shuffles, a column's stays in the
// lane's registers and is joined across the warps at the end.
constexpr int64_t patch_rows = 64, patch_columns = 64;
constexpr int warps = 8, columns_per_lane = 2;

// Below every cosine. Infinity would make the difference of two maxima NaN.
constexpr int least_cosine = -2;

// The pairs of a tile that are no negatives of each other.
struct Mask {
  PairIds ids;

  __device__ bool operator()(int64_t positive, int64_t column) const {
    return positive != column && together(positive, column);
  }

  // Whether row and column are a pair, or share an id with it.
  __device__ bool together(int64_t row, int64_t column) const {
    return row == column || (ids.sources && ids.sources[row] == ids.sources[column]) ||
           (ids.targets && ids.targets[row] == ids.targets[column]);
  }
};

template <typename T>
__global__ void normalise_kernel(T* unit, T* inverse_norm, const T* x, int64_t rows, int64_t width,
                                 double eps) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.y;
  if (r >= rows) return;  // with its whole warp: the shuffles below are complete
  const T* const in = x + r * width;
  double square = 0;  // squares of a float can leave its range
  for (int64_t e = threadIdx.x; e < width; e += warp_size)
    square += static_cast<double>(in[e]) * in[e];
  const double norm = sqrt(warp_sum(square));
  const T inverse = static_cast<T>(1 / (norm < eps ? eps : norm));
  if (threadIdx.x == 0) inverse_norm[r] = inverse;
  for (int64_t e = threadIdx.x; e < width; e += warp_size) unit[r * width + e] = in[e] * inverse;
}

// A sum of exponentials and the maximum that they are relative to.
template <typename T>
struct Partial {
  T max, sum;
};

// Per patch: its rows' sums and maxima [column patches, rows], and its columns' [row patches,
// columns]. Bounded: maxima are 1 and not written.
template <typename T, bool bounded>
__global__ void accumulate_kernel(T* row_sum, T* row_max, T* column_sum, T* column_max, T* positive,
                                  T* tile, const double* inverse_temperature, Mask mask,
                                  TilePlace place, bool keep) {
  EMS_SHARED(T, joined_sum, warps * patch_columns);
  EMS_SHARED(T, joined_max, warps * patch_columns);
  const T k = static_cast<T>(*inverse_temperature);
  const int lane = threadIdx.x, warp = threadIdx.y;
  const int64_t first_row = blockIdx.x * patch_rows, first_column = blockIdx.y * patch_columns;
  Partial<T> column[columns_per_lane];
  for (auto& c : column) c = {T(least_cosine), T(0)};

  for (int64_t r = first_row + warp; r < first_row + patch_rows && r < place.rows; r += warps) {
    const int64_t i = place.row + r;
    T cosine[columns_per_lane];
    T max = T(least_cosine), sum = 0;
    for (int n = 0; n < columns_per_lane; ++n) {
      const int64_t c = first_column + lane + n * static_cast<int64_t>(warp_size);
      cosine[n] = -INFINITY;
      if (c >= place.columns) continue;
      T* const entry = tile + r * place.stride + c;
      const int64_t j = place.column + c;
      if (j == i) positive[i] = *entry;
      if (!mask(i, j)) cosine[n] = *entry;
      if (bounded) {
        const T e = exp(cosine[n] * k - k);
        column[n].sum += e;
        sum += e;
        if (keep) *entry = e;
      } else {
        if (keep) *entry = cosine[n];
        max = cosine[n] > max ? cosine[n] : max;
        Partial<T>& p = column[n];
        if (cosine[n] > p.max) {
          p.sum = p.sum * exp((p.max - cosine[n]) * k) + 1;
          p.max = cosine[n];
        } else {
          p.sum += exp((cosine[n] - p.max) * k);
        }
      }
    }
    if (!bounded) {
      max = warp_max(max);
      for (int n = 0; n < columns_per_lane; ++n) sum += exp((cosine[n] - max) * k);
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      row_sum[blockIdx.y * place.rows + r] = sum;
      if (!bounded) row_max[blockIdx.y * place.rows + r] = max;
    }
  }

  for (int n = 0; n < columns_per_lane; ++n) {
    joined_sum[warp * patch_columns + n * warp_size + lane] = column[n].sum;
    if (!bounded) joined_max[warp * patch_columns + n * warp_size + lane] = column[n].max;
  }
  __syncthreads();
  const int64_t within = static_cast<int64_t>(warp) * warp_size + lane;
  const int64_t c = first_column + within;
  if (within >= patch_columns || c >= place.columns) return;
  T max = T(least_cosine), sum = 0;
  if (!bounded)
    for (int w = 0; w < warps; ++w) {
      const T other = joined_max[w * patch_columns + within];
      max = other > max ? other : max;
    }
  for (int w = 0; w < warps; ++w) {
    const T part = joined_sum[w * patch_columns + within];
    sum += bounded ? part : part * exp((joined_max[w * patch_columns + within] - max) * k);
  }
  column_sum[blockIdx.x * place.columns + c] = sum;
  if (!bounded) column_max[blockIdx.x * place.columns + c] = max;
}

// Adds `parts` partial sums, `size` apart, to a running sum, in their order.
template <typename T, bool bounded>
__device__ void join(double& total, T* running, const T* sum, const T* max, int64_t parts,
                     int64_t size, double k) {
  double added = 0;
  if (bounded) {
    EMS_UNROLL
    for (int64_t p = 0; p < parts; ++p) added += sum[p * size];
    total += added;
    return;
  }
  T highest = *running;
  EMS_UNROLL
  for (int64_t p = 0; p < parts; ++p) highest = max[p * size] > highest ? max[p * size] : highest;
  EMS_UNROLL
  for (int64_t p = 0; p < parts; ++p)
    added += sum[p * size] * exp(k * (static_cast<double>(max[p * size]) - highest));
  total = total * exp(k * (static_cast<double>(*running) - highest)) + added;
  *running = highest;
}

// The tile's partial sums, as accumulate_kernel left them, into the running sums of its rows (the
// first place.rows threads) and of its columns (the others).
template <typename T, bool bounded>
__global__ void join_kernel(double* row_sum, double* column_sum, T* row_max, T* column_max,
                            const T* row_parts, const T* row_part_max, const T* column_parts,
                            const T* column_part_max, const double* k, TilePlace place) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t < place.rows) {
    const int64_t parts = (place.columns + patch_columns - 1) / patch_columns;
    join<T, bounded>(row_sum[place.row + t], bounded ? nullptr : row_max + place.row + t,
                     row_parts + t, row_part_max + t, parts, place.rows, *k);
  } else if (t < place.rows + place.columns) {
    const int64_t c = t - place.rows;
    const int64_t parts = (place.rows + patch_rows - 1) / patch_rows;
    join<T, bounded>(column_sum[place.column + c],
                     bounded ? nullptr : column_max + place.column + c, column_parts + c,
                     column_part_max + c, parts, place.columns, *k);
  }
}

template <typename T>
__global__ void finish_kernel(T* loss, const double* row_sum, const double* column_sum,
                              const T* row_max, const T* column_max, const double* k, int64_t B) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= B) return;
  const double cosine = loss[i];
  // Maxima first: where the positive is the maximum they cancel without error.
  const double above_row = (row_max ? row_max[i] : T(1)) - cosine;
  const double above_column = (column_max ? column_max[i] : T(1)) - cosine;
  loss[i] =
      static_cast<T>((log(row_sum[i]) + log(column_sum[i]) + *k * (above_row + above_column)) / 2);
}

template <typename T>
__global__ void weigh_kernel(T* row_weight, T* column_weight, const double* row_sum,
                             const double* column_sum, const T* grad_loss, const double* k,
                             int64_t B, int64_t M) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t < B) row_weight[t] = static_cast<T>(*k * grad_loss[t] / 2 / row_sum[t]);
  if (t < M)
    column_weight[t] = t < B ? static_cast<T>(*k * grad_loss[t] / 2 / column_sum[t]) : T(0);
}

template <typename T>
__global__ void gradient_kernel(T* gradient, const T* tile, const T* row_weight,
                                const T* column_weight, const T* row_max, const T* column_max,
                                const T* grad_loss, const double* slope_of_positives,
                                const double* inverse_temperature, Mask mask, TilePlace place,
                                bool kept) {
  const T k = static_cast<T>(*inverse_temperature);
  const T slope = static_cast<T>(*slope_of_positives);
  const int64_t first_row = blockIdx.x * patch_rows, first_column = blockIdx.y * patch_columns;
  for (int n = 0; n < columns_per_lane; ++n) {
    const int64_t c = first_column + threadIdx.x + n * static_cast<int64_t>(warp_size);
    if (c >= place.columns) continue;
    const int64_t j = place.column + c;
    const T of_column = column_weight[j];
    for (int64_t r = first_row + threadIdx.y; r < first_row + patch_rows && r < place.rows;
         r += warps) {
      const int64_t i = place.row + r;
      const T in = tile[r * place.stride + c];
      T out;
      if (mask(i, j))
        out = 0;
      else if (row_max)
        out =
            row_weight[i] * exp((in - row_max[i]) * k) + of_column * exp((in - column_max[j]) * k);
      else
        out = (kept ? in : exp(in * k - k)) * (row_weight[i] + of_column);
      gradient[r * place.stride + c] = j == i ? out - slope * grad_loss[i] : out;
    }
  }
}

// A warp for each row of the tile.
template <typename T>
__global__ void gather_rows_kernel(T* tile, double* sum, double* count, const double* share,
                                   Mask mask, TilePlace place, double margin) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.y;
  if (r >= place.rows) return;  // with its whole warp: the shuffles below are complete
  const int64_t i = place.row + r;
  const T lower = static_cast<T>(margin), scale = static_cast<T>(*share);
  double added = 0, found = 0;
  for (int64_t c = threadIdx.x; c < place.columns; c += warp_size) {
    if (!mask.together(i, place.column + c)) continue;
    T& entry = tile[r * place.stride + c];
    entry = (entry - lower) * scale;
    added += entry;
    ++found;
  }
  if (!sum) return;
  added = warp_sum(added);
  found = warp_sum(found);
  if (threadIdx.x > 0) return;
  sum[i] += added;
  count[i] += found;
}

// A thread for each column of the tile, after gather_rows_kernel.
template <typename T>
__global__ void gather_columns_kernel(const T* tile, double* sum, double* count, Mask mask,
                                      TilePlace place) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= place.columns) return;
  double added = 0, found = 0;
  for (int64_t r = 0; r < place.rows; ++r) {
    if (!mask.together(place.row + r, place.column + c)) continue;
    added += tile[r * place.stride + c];
    ++found;
  }
  sum[place.column + c] += added;
  count[place.column + c] += found;
}

// A warp for each row of the tile.
template <typename T>
__global__ void pull_kernel(T* gradient, double* along, const T* row_pull, const T* column_pull,
                            Mask mask, TilePlace place) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.y;
  if (r >= place.rows) return;
  const int64_t i = place.row + r;
  double left = 0;
  for (int64_t c = threadIdx.x; c < place.columns; c += warp_size) {
    if (!mask.together(i, place.column + c)) continue;
    T& entry = gradient[r * place.stride + c];
    entry -= row_pull[i] + column_pull[place.column + c];
    left += entry;
  }
  left = warp_sum(left);
  if (threadIdx.x == 0) along[i] += left;
}

template <typename T>
__global__ void normalise_backward_kernel(T* grad, double* dots, const T* unit,
                                          const T* inverse_norm, int64_t rows, int64_t width,
                                          double eps) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.y;
  if (r >= rows) return;
  T* const g = grad + r * width;
  const T* const u = unit + r * width;
  double dot = 0;
  for (int64_t e = threadIdx.x; e < width; e += warp_size) dot += static_cast<double>(g[e]) * u[e];
  dot = warp_sum(dot);
  if (threadIdx.x == 0) dots[r] = dot;
  const T inverse = inverse_norm[r];
  // A norm that was raised to eps is a constant: nothing is projected out.
  const T radial = inverse < static_cast<T>(1 / eps) ? static_cast<T>(dot) : T(0);
  for (int64_t e = threadIdx.x; e < width; e += warp_size) g[e] = (g[e] - u[e] * radial) * inverse;
}

// One block: out = Σ x.
__global__ void sum_kernel(double* out, const double* x, int64_t size) {
  EMS_SHARED(double, of_warp, warp_size);
  const int64_t t = threadIdx.y * static_cast<int64_t>(warp_size) + threadIdx.x;
  double sum = 0;
  for (int64_t i = t; i < size; i += warp_size * warp_size) sum += x[i];
  sum = warp_sum(sum);
  if (threadIdx.x == 0) of_warp[threadIdx.y] = sum;
  __syncthreads();
  if (threadIdx.y > 0) return;
  sum = warp_sum(of_warp[threadIdx.x]);
  if (threadIdx.x == 0) *out = sum;
}

const dim3 patch_block(warp_size, warps);
constexpr unsigned flat_block = 256;

}  // namespace

int64_t accumulate_workspace_size(int64_t rows, int64_t columns) {
  return 2 * (rows * blocks_for(columns, patch_columns) + columns * blocks_for(rows, patch_rows));
}

template <typename T>
void normalise(T* unit, T* inverse_norm, const T* x, int64_t rows, int64_t width, double eps,
               Queue queue) {
  launch(normalise_kernel<T>, blocks_for(rows, warps), patch_block, queue, unit, inverse_norm, x,
         rows, width, eps);
}

template <typename T>
void accumulate(double* row_sum, double* column_sum, T* row_max, T* column_max, T* positive,
                T* tile, T* workspace, const double* k, PairIds ids, TilePlace place, bool keep,
                Queue queue) {
  const dim3 grid(blocks_for(place.rows, patch_rows), blocks_for(place.columns, patch_columns));
  T* const row_parts = workspace;
  T* const row_part_max = row_parts + grid.y * place.rows;
  T* const column_parts = row_part_max + grid.y * place.rows;
  T* const column_part_max = column_parts + grid.x * place.columns;
  const bool bounded = row_max == nullptr;
  launch(bounded ? accumulate_kernel<T, true> : accumulate_kernel<T, false>, grid, patch_block,
         queue, row_parts, row_part_max, column_parts, column_part_max, positive, tile, k,
         Mask{ids}, place, keep);
  launch(bounded ? join_kernel<T, true> : join_kernel<T, false>,
         blocks_for(place.rows + place.columns, flat_block), flat_block, queue, row_sum, column_sum,
         row_max, column_max, row_parts, row_part_max, column_parts, column_part_max, k, place);
}

template <typename T>
void finish(T* loss, const double* row_sum, const double* column_sum, const T* row_max,
            const T* column_max, const double* k, int64_t B, Queue queue) {
  launch(finish_kernel<T>, blocks_for(B, flat_block), flat_block, queue, loss, row_sum, column_sum,
         row_max, column_max, k, B);
}

template <typename T>
void weigh(T* row_weight, T* column_weight, const double* row_sum, const double* column_sum,
           const T* grad_loss, const double* k, int64_t B, int64_t M, Queue queue) {
  launch(weigh_kernel<T>, blocks_for(M, flat_block), flat_block, queue, row_weight, column_weight,
         row_sum, column_sum, grad_loss, k, B, M);
}

template <typename T>
void gradient(T* gradient, const T* tile, const T* row_weight, const T* column_weight,
              const T* row_max, const T* column_max, const T* grad_loss, const double* slope,
              const double* k, PairIds ids, TilePlace place, bool kept, Queue queue) {
  const dim3 grid(blocks_for(place.rows, patch_rows), blocks_for(place.columns, patch_columns));
  launch(gradient_kernel<T>, grid, patch_block, queue, gradient, tile, row_weight, column_weight,
         row_max, column_max, grad_loss, slope, k, Mask{ids}, place, kept);
}

template <typename T>
void gather_positives(T* tile, double* row_sum, double* row_count, double* column_sum,
                      double* column_count, const double* share, PairIds ids, TilePlace place,
                      double margin, Queue queue) {
  launch(gather_rows_kernel<T>, blocks_for(place.rows, warps), patch_block, queue, tile, row_sum,
         row_count, share, Mask{ids}, place, margin);
  if (!row_sum) return;
  launch(gather_columns_kernel<T>, blocks_for(place.columns, flat_block), flat_block, queue, tile,
         column_sum, column_count, Mask{ids}, place);
}

template <typename T>
void pull_positives(T* gradient, double* along, const T* row_pull, const T* column_pull,
                    PairIds ids, TilePlace place, Queue queue) {
  launch(pull_kernel<T>, blocks_for(place.rows, warps), patch_block, queue, gradient, along,
         row_pull, column_pull, Mask{ids}, place);
}

template <typename T>
void normalise_backward(T* grad, double* along, double* workspace, const T* unit,
                        const T* inverse_norm, int64_t rows, int64_t width, double eps,
                        Queue queue) {
  launch(normalise_backward_kernel<T>, blocks_for(rows, warps), patch_block, queue, grad, workspace,
         unit, inverse_norm, rows, width, eps);
  launch(sum_kernel, 1u, dim3(warp_size, warp_size), queue, along, workspace, rows);
}

#define EMS_INSTANTIATE(T)                                                                        \
  template void normalise<T>(T*, T*, const T*, int64_t, int64_t, double, Queue);                  \
  template void accumulate<T>(double*, double*, T*, T*, T*, T*, T*, const double*, PairIds,       \
                              TilePlace, bool, Queue);                                            \
  template void finish<T>(T*, const double*, const double*, const T*, const T*, const double*,    \
                          int64_t, Queue);                                                        \
  template void weigh<T>(T*, T*, const double*, const double*, const T*, const double*, int64_t,  \
                         int64_t, Queue);                                                         \
  template void gradient<T>(T*, const T*, const T*, const T*, const T*, const T*, const T*,       \
                            const double*, const double*, PairIds, TilePlace, bool, Queue);       \
  template void gather_positives<T>(T*, double*, double*, double*, double*, const double*,        \
                                    PairIds, TilePlace, double, Queue);                           \
  template void pull_positives<T>(T*, double*, const T*, const T*, PairIds, TilePlace, Queue);    \
  template void normalise_backward<T>(T*, double*, double*, const T*, const T*, int64_t, int64_t, \
                                      double, Queue);
EMS_INSTANTIATE(float)
EMS_INSTANTIATE(double)

}  // namespace cuda
}  // namespace ems
