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
}
