//! Least squares from normal equations, in f64: Cholesky where the rows determine the map, else the minimum-norm solution
//! of the symmetric pseudo-inverse.

/// Share of its own size that a column must keep after removing what earlier columns explain; below it the columns count
/// as dependent. Rounding in the accumulated products is some orders of magnitude smaller.
const DEPENDENT: f64 = 1e-11;
/// Ridge on the diagonal, relative to each column's own square sum; far below what f32 activations resolve.
const RIDGE: f64 = 1e-13;
/// Eigenvalues below this share of the largest one count as zero.
const CUTOFF: f64 = 1e-12;
/// Jacobi sweeps; convergence is quadratic and takes 6 to 12.
const SWEEPS: usize = 64;

/// Normal equations of `min |[X 1] A - Y|` gathered batch by batch, for `inputs` columns of X and `outputs` of Y.
#[derive(Debug, Clone)]
pub struct NormalEquations {
    inputs: usize,
    outputs: usize,
    /// `[X 1]' [X 1]`, square of `inputs + 1`.
    gram: Vec<f64>,
    /// `[X 1]' Y`, `[inputs + 1][outputs]`.
    cross: Vec<f64>,
    /// Square sum of each column of Y.
    squares: Vec<f64>,
}

/// An affine map and how well it fits.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// `[out][in]` weights.
    pub weights: Vec<f64>,
    /// One bias per output.
    pub bias: Vec<f64>,
    /// Frobenius norm of what the map leaves unexplained.
    pub residual: f64,
    /// `residual` over the norm of Y without its column means: 0 is a perfect fit, 1 no better than the bias alone.
    pub relative_residual: f64,
}

/// Rows converted and multiplied at a time: bounds the f64 copies.
const CHUNK_ROWS: usize = 2048;

impl NormalEquations {
    /// Equations without rows.
    #[must_use]
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let columns = inputs + 1;
        Self {
            inputs,
            outputs,
            gram: vec![0.0; columns * columns],
            cross: vec![0.0; columns * outputs],
            squares: vec![0.0; outputs],
        }
    }

    /// Adds rows: `x` is `[rows][inputs]`, `y` is `[rows][outputs]`. Rows beyond the shorter of the two are ignored.
    pub fn add(&mut self, x: &[f32], y: &[f32]) {
        for (x, y) in x.chunks(CHUNK_ROWS * self.inputs).zip(y.chunks(CHUNK_ROWS * self.outputs)) {
            let rows = (x.len() / self.inputs).min(y.len() / self.outputs);
            let mut extended = Vec::with_capacity(rows * (self.inputs + 1));
            for row in x.chunks_exact(self.inputs).take(rows) {
                extended.extend(row.iter().map(|&value| f64::from(value)));
                extended.push(1.0);
            }
            let targets: Vec<f64> = y[..rows * self.outputs].iter().map(|&value| f64::from(value)).collect();
            let columns = self.inputs + 1;
            add_product(&mut self.gram, &extended, &extended, rows, columns, columns);
            add_product(&mut self.cross, &extended, &targets, rows, columns, self.outputs);
            for row in targets.chunks_exact(self.outputs) {
                self.squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
            }
        }
    }

    /// Solves the equations; the minimum-norm map when the rows do not determine one.
    #[must_use]
    pub fn solve(&self) -> AffineMap {
        let columns = self.inputs + 1;
        let solution = cholesky_solve(&self.gram, &self.cross, columns, self.outputs)
            .unwrap_or_else(|| pseudo_solve(&self.gram, &self.cross, columns, self.outputs));
        let column = |out: usize| (0..columns).map(|row| solution[row * self.outputs + out]).collect::<Vec<f64>>();
        let mut map = AffineMap { weights: Vec::new(), bias: Vec::new(), residual: 0.0, relative_residual: 0.0 };
        for out in 0..self.outputs {
            let coefficients = column(out);
            map.weights.extend(&coefficients[..self.inputs]);
            map.bias.push(coefficients[self.inputs]);
        }
        self.measure(&mut map);
        map
    }

    /// Solves as if independent noise sat on X, with `noise` times the mean variance of X's columns (`0.001` is 30 dB).
    /// This is ridge regression without a penalty on the bias: columns weaker than the noise get no large weights.
    #[must_use]
    pub fn solve_with_noise(&self, noise: f64) -> AffineMap {
        let columns = self.inputs + 1;
        let rows = self.gram[self.gram.len() - 1];
        if noise <= 0.0 || rows <= 0.0 {
            return self.solve();
        }
        let centred = |i: usize| self.gram[i * columns + i] - self.gram[self.inputs * columns + i].powi(2) / rows;
        let ridge = noise * (0..self.inputs).map(centred).sum::<f64>() / self.inputs as f64;
        let mut noisy = self.clone();
        (0..self.inputs).for_each(|i| noisy.gram[i * columns + i] += ridge);
        let mut map = noisy.solve();
        self.measure(&mut map);
        map
    }

    /// Adds the rows of other equations of the same extents.
    ///
    /// # Panics
    /// When the extents differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!((self.inputs, self.outputs), (other.inputs, other.outputs), "equations of different extents");
        let sums =
            [(&mut self.gram, &other.gram), (&mut self.cross, &other.cross), (&mut self.squares, &other.squares)];
        for (sum, more) in sums {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Relative residual of any map against these equations, as [`AffineMap::relative_residual`].
    #[must_use]
    pub fn residual_of(&self, map: &AffineMap) -> f64 {
        let mut map = map.clone();
        self.measure(&mut map);
        map.relative_residual
    }

    /// The best approximation of `map` by way of `rank` channels, for the rows of these equations: the projection of what
    /// it gives onto the directions in which that varies most. Returns the `[rank][in]` weights of the first layer and the
    /// second one as a map from `rank` channels, with the residual of both.
    #[must_use]
    pub fn reduced(&self, map: &AffineMap, rank: usize) -> (Vec<f64>, AffineMap) {
        let (columns, rows) = (self.inputs + 1, self.gram[self.gram.len() - 1].max(1.0));
        let mean: Vec<f64> = (0..self.inputs).map(|i| self.gram[self.inputs * columns + i] / rows).collect();
        let row = |out: usize| &map.weights[out * self.inputs..][..self.inputs];
        // Covariance of what the map gives: W S W'.
        let mut spread = vec![0.0; self.inputs * self.inputs];
        for i in 0..self.inputs {
            for j in 0..self.inputs {
                spread[i * self.inputs + j] = self.gram[i * columns + j] / rows - mean[i] * mean[j];
            }
        }
        let mut weighted = vec![0.0; self.outputs * self.inputs];
        let columns_first = transposed(&map.weights, self.outputs, self.inputs);
        add_product(&mut weighted, &columns_first, &spread, self.inputs, self.outputs, self.inputs);
        let weighted = transposed(&weighted, self.outputs, self.inputs);
        let mut covariance = vec![0.0; self.outputs * self.outputs];
        add_product(&mut covariance, &columns_first, &weighted, self.inputs, self.outputs, self.outputs);
        let directions = leading_directions(&covariance, self.outputs, rank);
        let (mut down, mut up) = (Vec::with_capacity(rank * self.inputs), vec![0.0; self.outputs * rank]);
        for (index, direction) in directions.iter().enumerate() {
            let mut first = vec![0.0; self.inputs];
            for (out, &share) in direction.iter().enumerate() {
                first.iter_mut().zip(row(out)).for_each(|(sum, weight)| *sum += share * weight);
                up[out * rank + index] = share;
            }
            down.extend(first);
        }
        let mut whole = AffineMap { weights: Vec::new(), bias: Vec::new(), ..map.clone() };
        for out in 0..self.outputs {
            let mut weights = vec![0.0; self.inputs];
            for index in 0..rank {
                let share = up[out * rank + index];
                let first = &down[index * self.inputs..][..self.inputs];
                weights.iter_mut().zip(first).for_each(|(sum, weight)| *sum += share * weight);
            }
            whole.bias.push(map.bias[out] + dot(row(out), &mean) - dot(&weights, &mean));
            whole.weights.extend(weights);
        }
        self.measure(&mut whole);
        (down, AffineMap { weights: up, ..whole })
    }

    /// Similarity of X and Y that no rotation or common factor changes (linear CKA, 0 to 1): the square norm of their
    /// covariance over the product of the norms of their own. `targets` holds the same rows of Y.
    #[must_use]
    pub fn similarity(&self, targets: &Moments) -> f64 {
        let (columns, rows) = (self.inputs + 1, self.gram[self.gram.len() - 1]);
        if rows <= 0.0 {
            return 0.0;
        }
        let (mut own, mut shared) = (0.0, 0.0);
        for i in 0..self.inputs {
            let sum = self.gram[self.inputs * columns + i];
            for j in 0..self.inputs {
                own += (self.gram[i * columns + j] - sum * self.gram[self.inputs * columns + j] / rows).powi(2);
            }
            for out in 0..self.outputs {
                let product = self.cross[i * self.outputs + out];
                shared += (product - sum * self.cross[self.inputs * self.outputs + out] / rows).powi(2);
            }
        }
        let norms = own.sqrt() * targets.square_norm().sqrt();
        if norms > 0.0 { shared / norms } else { 0.0 }
    }

    /// Variance of Y, the mean over its columns.
    #[must_use]
    pub fn target_variance(&self) -> f64 {
        let rows = self.gram[self.gram.len() - 1].max(1.0);
        (0..self.outputs).map(|out| self.spread(out).max(0.0)).sum::<f64>() / (rows * self.outputs.max(1) as f64)
    }

    /// Sets the residuals of a map against these equations.
    fn measure(&self, map: &mut AffineMap) {
        let (mut unexplained, mut spread) = (0.0, 0.0);
        for out in 0..self.outputs {
            let mut coefficients = map.weights[out * self.inputs..][..self.inputs].to_vec();
            coefficients.push(map.bias[out]);
            unexplained += self.unexplained(&coefficients, out).max(0.0);
            spread += self.spread(out).max(0.0);
        }
        map.residual = unexplained.sqrt();
        map.relative_residual = if spread > 0.0 { (unexplained / spread).sqrt() } else { 0.0 };
    }

    /// Square sum of `[X 1] a - y` for one column: `y'y - 2 a'c + a'Ga`.
    fn unexplained(&self, a: &[f64], out: usize) -> f64 {
        let columns = self.inputs + 1;
        let linear: f64 = a.iter().enumerate().map(|(row, v)| v * self.cross[row * self.outputs + out]).sum();
        let quadratic: f64 =
            a.iter().enumerate().map(|(row, v)| v * dot(&self.gram[row * columns..(row + 1) * columns], a)).sum();
        self.squares[out] - 2.0 * linear + quadratic
    }

    /// Square sum of one column of Y around its mean. The last row of the products holds plain sums.
    fn spread(&self, out: usize) -> f64 {
        let rows = self.gram[self.gram.len() - 1];
        let sum = self.cross[self.inputs * self.outputs + out];
        if rows > 0.0 { self.squares[out] - sum * sum / rows } else { 0.0 }
    }
}

/// Sums and products of the columns of a matrix, gathered batch by batch.
#[derive(Debug, Clone)]
pub struct Moments {
    columns: usize,
    rows: f64,
    sums: Vec<f64>,
    products: Vec<f64>,
}

impl Moments {
    /// Without rows.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, rows: 0.0, sums: vec![0.0; columns], products: vec![0.0; columns * columns] }
    }

    /// Adds rows of `[rows][columns]`.
    pub fn add(&mut self, values: &[f32]) {
        for chunk in values.chunks(CHUNK_ROWS * self.columns) {
            let wide: Vec<f64> = chunk.iter().map(|&value| f64::from(value)).collect();
            let rows = wide.len() / self.columns;
            add_product(&mut self.products, &wide, &wide, rows, self.columns, self.columns);
            for row in wide.chunks_exact(self.columns) {
                self.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            self.rows += rows as f64;
        }
    }

    /// Square norm of the products around the means.
    fn square_norm(&self) -> f64 {
        let centred = |(index, &product): (usize, &f64)| {
            let (i, j) = (index / self.columns, index % self.columns);
            (product - self.sums[i] * self.sums[j] / self.rows.max(1.0)).powi(2)
        };
        self.products.iter().enumerate().map(centred).sum()
    }
}

/// Rounds of [`leading_directions`]; the residual settles long before the directions do.
const ROUNDS: usize = 60;

/// The `count` orthonormal directions in which a covariance of size `n` is largest, by orthogonal iteration.
fn leading_directions(covariance: &[f64], n: usize, count: usize) -> Vec<Vec<f64>> {
    // A fixed start with a share of every direction.
    let start = |index: usize| (0..n).map(|i| ((i * 37 + index * 101 + 11) % 97) as f64 / 48.5 - 1.0).collect();
    let mut directions: Vec<Vec<f64>> = (0..count.min(n)).map(start).collect();
    for _ in 0..ROUNDS {
        for direction in &mut directions {
            *direction = (0..n).map(|row| dot(&covariance[row * n..(row + 1) * n], direction)).collect();
        }
        orthonormalise(&mut directions);
    }
    directions
}

/// Gram-Schmidt, twice for accuracy; directions that the ones before explain become zero.
fn orthonormalise(directions: &mut [Vec<f64>]) {
    for index in 0..directions.len() {
        let (before, rest) = directions.split_at_mut(index);
        let direction = &mut rest[0];
        let size = dot(direction, direction).sqrt();
        for known in before.iter().chain(before.iter()) {
            let share = dot(known, direction);
            direction.iter_mut().zip(known).for_each(|(value, known)| *value -= share * known);
        }
        let left = dot(direction, direction).sqrt();
        let factor = if left > 1e-10 * size { 1.0 / left } else { 0.0 };
        direction.iter_mut().for_each(|value| *value *= factor);
    }
}

fn transposed(matrix: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `sum += a' b` for `a` of `[rows][m]` and `b` of `[rows][n]`.
fn add_product(sum: &mut [f64], a: &[f64], b: &[f64], rows: usize, m: usize, n: usize) {
    assert!(sum.len() == m * n && a.len() == rows * m && b.len() == rows * n);
    // SAFETY: the assertion above makes every element the strides reach lie inside its slice; `sum` is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            rows,
            sum.as_mut_ptr(),
            1,
            n as isize,
            true,
            a.as_ptr(),
            m as isize,
            1,
            b.as_ptr(),
            1,
            n as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Solves `gram * solution = right` for a positive definite `gram` of size `n` and `m` right-hand sides in rows of `m`.
/// `None` when columns are dependent.
#[must_use]
pub fn cholesky_solve(gram: &[f64], right: &[f64], n: usize, m: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let (above, left) = (&lower[column * n..column * n + column], &lower[row * n..row * n + column]);
            let rest = gram[row * n + column] - dot(above, left);
            if row == column {
                let own = gram[row * n + row];
                if rest.is_nan() || rest <= DEPENDENT * own {
                    return None;
                }
                lower[row * n + row] = (rest + RIDGE * own).sqrt();
            } else {
                lower[row * n + column] = rest / lower[column * n + column];
            }
        }
    }
    let mut solution = right.to_vec();
    for row in 0..n {
        for known in 0..row {
            subtract_row(&mut solution, row, known, lower[row * n + known], m);
        }
        solution[row * m..(row + 1) * m].iter_mut().for_each(|value| *value /= lower[row * n + row]);
    }
    for row in (0..n).rev() {
        for known in row + 1..n {
            subtract_row(&mut solution, row, known, lower[known * n + row], m);
        }
        solution[row * m..(row + 1) * m].iter_mut().for_each(|value| *value /= lower[row * n + row]);
    }
    Some(solution)
}

/// The pseudo-inverse, `[columns][rows]`, of a matrix of `[rows][columns]`. With `noise` above 0 directions that the matrix
/// makes small are not blown up: that share of its mean square singular value counts as noise on what is inverted.
#[must_use]
pub fn pseudo_inverse(matrix: &[f64], rows: usize, columns: usize, noise: f64) -> Vec<f64> {
    let row = |index: usize| &matrix[index * columns..(index + 1) * columns];
    let mut gram: Vec<f64> = (0..rows * rows).map(|index| dot(row(index / rows), row(index % rows))).collect();
    let ridge = noise * (0..rows).map(|index| gram[index * rows + index]).sum::<f64>() / rows.max(1) as f64;
    (0..rows).for_each(|index| gram[index * rows + index] += ridge);
    let solved = cholesky_solve(&gram, matrix, rows, columns);
    transposed(&solved.unwrap_or_else(|| pseudo_solve(&gram, matrix, rows, columns)), rows, columns)
}

/// Row `row` minus `factor` times row `other`.
fn subtract_row(matrix: &mut [f64], row: usize, other: usize, factor: f64, m: usize) {
    for column in 0..m {
        matrix[row * m + column] -= factor * matrix[other * m + column];
    }
}

/// Minimum-norm solution of `gram * solution = right` for a positive semidefinite `gram` of size `n` and `m` right-hand
/// sides in rows of `m`.
#[must_use]
pub fn pseudo_solve(gram: &[f64], right: &[f64], n: usize, m: usize) -> Vec<f64> {
    let (values, vectors) = symmetric_eigen(gram, n);
    let largest = values.iter().copied().fold(0.0, f64::max);
    let mut solution = vec![0.0; n * m];
    for (index, &value) in values.iter().enumerate().filter(|&(_, &value)| value > CUTOFF * largest) {
        let vector = &vectors[index * n..(index + 1) * n];
        for column in 0..m {
            let projection = (0..n).map(|row| vector[row] * right[row * m + column]).sum::<f64>() / value;
            (0..n).for_each(|row| solution[row * m + column] += projection * vector[row]);
        }
    }
    solution
}

/// Eigenvalues and eigenvectors (one per row, orthonormal) of a symmetric matrix of size `n`, by cyclic Jacobi rotations.
#[must_use]
pub fn symmetric_eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let total: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off <= 1e-32 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// One Jacobi rotation that makes `a[p][q]` zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = a[p * n + q];
    if off == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (cosine * x - sine * y, sine * x + cosine * y);
    }
    for matrix in [a, vectors] {
        for k in 0..n {
            let (x, y) = (matrix[p * n + k], matrix[q * n + k]);
            (matrix[p * n + k], matrix[q * n + k]) = (cosine * x - sine * y, sine * x + cosine * y);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729 + i * i % 31) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn rows_of_merged_equations_count_alike() {
        let (x, y) = (numbers(40 * 3, 1), numbers(40 * 2, 2));
        let gather = |rows: std::ops::Range<usize>| {
            let mut equations = NormalEquations::new(3, 2);
            equations.add(&x[rows.start * 3..rows.end * 3], &y[rows.start * 2..rows.end * 2]);
            equations
        };
        let mut parts = gather(0..15);
        parts.merge(&gather(15..40));
        let (joint, whole) = (parts.solve(), gather(0..40).solve());
        assert!((joint.relative_residual - whole.relative_residual).abs() < 1e-12);
        assert!(joint.weights.iter().zip(&whole.weights).all(|(a, b)| (a - b).abs() < 1e-9));
        // The joint map is never worse on all rows than the mean of the parts' own maps.
        let (a, b) = (gather(0..15).solve(), gather(15..40).solve());
        let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect();
        let mean = AffineMap { weights: mean(&a.weights, &b.weights), bias: mean(&a.bias, &b.bias), ..a };
        assert!(parts.residual_of(&mean) >= joint.relative_residual);
    }

    #[test]
    fn a_map_of_low_rank_is_exact_where_the_targets_have_that_rank_and_else_the_best() {
        let x = numbers(200 * 4, 3);
        let flat: Vec<f32> =
            x.chunks_exact(4).flat_map(|x| [x[0] + x[1], 2.0 * (x[0] + x[1]), x[3], 1.0 - x[3]]).collect();
        let mut equations = NormalEquations::new(4, 4);
        equations.add(&x, &flat);
        let full = equations.solve();
        let (down, up) = equations.reduced(&full, 2);
        assert_eq!((down.len(), up.weights.len()), (2 * 4, 4 * 2));
        assert!(up.relative_residual < 1e-5, "{}", up.relative_residual);
        // Of rank 1 the strongest direction remains: columns 0 and 1, of five times the variance of x0 + x1.
        let residual = equations.reduced(&full, 1).1.relative_residual;
        let spread = |f: &dyn Fn(&[f32]) -> f32| {
            let values: Vec<f64> = x.chunks_exact(4).map(|row| f64::from(f(row))).collect();
            let mean = values.iter().sum::<f64>() / 200.0;
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
        };
        let (strong, weak) = (5.0 * spread(&|x| x[0] + x[1]), 2.0 * spread(&|x| x[3]));
        assert!(residual.powi(2) <= weak / (strong + weak) + 1e-9, "{residual}");
        assert!(residual.powi(2) > 0.5 * weak / (strong + weak));
    }

    #[test]
    fn similarity_ignores_rotation_and_size_and_falls_with_noise() {
        let x = numbers(300 * 2, 5);
        let turned: Vec<f32> = x
            .chunks_exact(2)
            .flat_map(|x| [3.0 * (0.6 * x[0] - 0.8 * x[1]) + 1.0, 3.0 * (0.8 * x[0] + 0.6 * x[1])])
            .collect();
        let of = |y: &[f32]| {
            let (mut equations, mut moments) = (NormalEquations::new(2, 2), Moments::new(2));
            equations.add(&x, y);
            moments.add(y);
            equations.similarity(&moments)
        };
        assert!((of(&turned) - 1.0).abs() < 1e-6);
        let other = numbers(300 * 2, 77);
        let mixed: Vec<f32> = turned.iter().zip(&other).map(|(a, b)| a + 2.0 * b).collect();
        assert!(of(&mixed) < 0.97 && of(&other) < of(&mixed), "{} {}", of(&mixed), of(&other));
    }

    #[derive(serde::Deserialize)]
    struct Case {
        x: Vec<Vec<f32>>,
        y: Vec<Vec<f32>>,
        weights: Vec<Vec<f64>>,
        bias: Vec<f64>,
        residual: Option<f64>,
    }

    #[derive(serde::Deserialize)]
    struct Vectors {
        determined: Vec<Case>,
        rank_deficient: Case,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("testdata/least_squares.json")).unwrap()
    }

    fn solve(case: &Case) -> AffineMap {
        let mut equations = NormalEquations::new(case.x[0].len(), case.y[0].len());
        equations.add(&case.x.concat(), &case.y.concat());
        equations.solve()
    }

    fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= tolerance, "{actual:?} is not {expected:?}");
        }
    }

    #[test]
    fn noise_keeps_a_nearly_dead_column_from_getting_a_large_weight() {
        let mut equations = NormalEquations::new(2, 1);
        let rows: Vec<[f32; 2]> = (0..64).map(|i| [(i % 7) as f32, if i == 5 { 1e-3 } else { 0.0 }]).collect();
        let y: Vec<f32> = rows.iter().map(|r| 2.0 * r[0] + 500.0 * r[1] + 1.0).collect();
        equations.add(rows.as_flattened(), &y);
        let (exact, robust) = (equations.solve(), equations.solve_with_noise(1e-3));
        assert!((exact.weights[1] - 500.0).abs() < 1.0, "{:?}", exact.weights);
        assert!(robust.weights[1].abs() < 1.0 && (robust.weights[0] - 2.0).abs() < 0.01, "{:?}", robust.weights);
        assert!(robust.relative_residual > exact.relative_residual && robust.relative_residual < 0.05);
        assert_eq!(equations.solve_with_noise(0.0), exact);
    }

    #[test]
    fn least_squares_matches_the_reference_solutions() {
        for case in vectors().determined {
            let map = solve(&case);
            assert_close(&map.weights, &case.weights.concat(), 1e-6);
            assert_close(&map.bias, &case.bias, 1e-6);
            if let Some(residual) = case.residual {
                assert!((map.residual - residual).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn dependent_columns_get_the_minimum_norm_solution() {
        let case = vectors().rank_deficient;
        let map = solve(&case);
        assert_close(&map.weights, &case.weights.concat(), 1e-6);
        assert_close(&map.bias, &case.bias, 1e-6);
    }

    #[test]
    fn a_channel_that_is_always_zero_gets_no_weight() {
        let x: Vec<f32> = (0..40).flat_map(|i| [(i as f32 * 0.7).sin(), 0.0]).collect();
        let y: Vec<f32> = x.chunks(2).map(|row| 3.0 * row[0] - 1.0).collect();
        let mut equations = NormalEquations::new(2, 1);
        equations.add(&x, &y);
        let map = equations.solve();
        assert_close(&map.weights, &[3.0, 0.0], 1e-6);
        assert_close(&map.bias, &[-1.0], 1e-6);
        assert!(map.relative_residual < 1e-6);
    }

    #[test]
    fn columns_of_very_different_size_are_told_apart() {
        let x: Vec<f32> =
            (0..200).flat_map(|i| [(i as f32 * 0.7).sin() * 1e3, (i as f32 * 1.3).cos() * 1e-2]).collect();
        let y: Vec<f32> = x.chunks(2).map(|row| row[0] * 1e-3 + row[1] * 100.0).collect();
        let mut equations = NormalEquations::new(2, 1);
        equations.add(&x, &y);
        let map = equations.solve();
        assert!((map.weights[0] - 1e-3).abs() < 1e-9 && (map.weights[1] - 100.0).abs() < 1e-3, "{map:?}");
    }

    #[test]
    fn batches_add_up_to_the_whole() {
        let case = &vectors().determined[0];
        let mut parts = NormalEquations::new(2, 3);
        for (x, y) in case.x.chunks(3).zip(case.y.chunks(3)) {
            parts.add(&x.concat(), &y.concat());
        }
        let (parts, whole) = (parts.solve(), solve(case));
        assert_close(&parts.weights, &whole.weights, 1e-12);
        assert_close(&parts.bias, &whole.bias, 1e-12);
    }

    proptest! {
        #[test]
        fn both_solvers_agree_on_positive_definite_systems(
            values in prop::collection::vec(-1.0f64..1.0, 36), right in prop::collection::vec(-1.0f64..1.0, 12)
        ) {
            let mut gram = vec![0.0; 36];
            for i in 0..6 {
                for j in 0..6 {
                    gram[i * 6 + j] = dot(&values[i * 6..i * 6 + 6], &values[j * 6..j * 6 + 6]) + f64::from(i == j);
                }
            }
            let direct = cholesky_solve(&gram, &right, 6, 2).expect("positive definite");
            let spectral = pseudo_solve(&gram, &right, 6, 2);
            for (d, s) in direct.iter().zip(&spectral) {
                prop_assert!((d - s).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn a_pseudo_inverse_undoes_what_can_be_undone() {
        let wide = [1.0, 2.0, 0.5, -1.0, 0.0, 3.0];
        let back = pseudo_inverse(&wide, 2, 3, 0.0);
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let product: f64 = (0..3).map(|k| wide[i * 3 + k] * back[k * 2 + j]).sum();
            assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j} {product}");
        }
        // Of rank 1: the rows are multiples, which no inverse takes apart.
        let flat = [1.0, 2.0, 2.0, 4.0];
        let back = pseudo_inverse(&flat, 2, 2, 0.0);
        let wanted = [1.0, 2.0, 2.0, 4.0].map(|value| value / 25.0);
        assert!(back.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
        assert!(pseudo_inverse(&[1e-9], 1, 1, 1e-3)[0] < 1e9);
    }
}
