# Expected values for tests/test_evaluation_*.py, from R.
#
#   Rscript tests/references/evaluation/make_references.R
#   (Debian: r-base, r-cran-proc, r-cran-rms, r-cran-sandwich, r-cran-jsonlite)
#
# Reads the CSV files beside it (made by make_inputs.py) and writes expected.json beside it.

suppressMessages({
  library(pROC)
  library(rms)
  library(sandwich)
  library(jsonlite)
})

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))
read <- function(name, ...) read.csv(file.path(folder, name), ...)
curve <- function(y, score) roc(y, score, levels = c(0, 1), direction = "<", quiet = TRUE)

out <- list(versions = list(
  R = paste(R.version$major, R.version$minor, sep = "."),
  pROC = as.character(packageVersion("pROC")),
  rms = as.character(packageVersion("rms"))
))

# --- one AUC, two correlated AUCs, two cohorts (pROC) --------------------------------------------------------------
one <- function(y, score, level = 0.95) {
  limits <- as.numeric(ci.auc(curve(y, score), method = "delong", conf.level = level))
  list(auc = limits[2], low = limits[1], high = limits[3], variance = as.numeric(var(curve(y, score), method = "delong")))
}
paired <- read("paired.csv")
out$paired_a <- one(paired$y, paired$a)
out$paired_b <- one(paired$y, paired$b)
out$paired_reader <- one(paired$y, paired$reader)
out$paired_a_level_90 <- one(paired$y, paired$a, 0.90)
out$perfect <- one(c(0, 0, 0, 1, 1), c(1, 2, 3, 4, 5))
out$reversed <- one(paired$y, -paired$a)
test <- roc.test(curve(paired$y, paired$a), curve(paired$y, paired$b), method = "delong", paired = TRUE)
out$paired_test <- list(
  statistic = unname(test$statistic), p = test$p.value, low = test$conf.int[1], high = test$conf.int[2],
  covariance = as.numeric(cov(curve(paired$y, paired$a), curve(paired$y, paired$b), method = "delong"))
)
first <- read("unpaired_a.csv")
second <- read("unpaired_b.csv")
test <- roc.test(curve(first$y, first$score), curve(second$y, second$score), method = "delong", paired = FALSE)
out$unpaired_test <- list(
  statistic = unname(test$statistic), df = unname(test$parameter), p = test$p.value, auc_a = unname(test$estimate[1]),
  auc_b = unname(test$estimate[2])
)
best <- coords(curve(paired$y, paired$b), "best", best.method = "youden", transpose = FALSE)
out$youden <- as.list(best)

# --- clustered AUC, Obuchowski 1997, by the sums as printed, pair by pair ---------------------------------------------
wins <- function(x, y) if (x > y) 1 else if (x == y) 0.5 else 0
obuchowski <- function(y, scores, cluster) {
  clusters <- unique(cluster)
  I <- length(clusters)
  M <- sum(y == 1)
  N <- sum(y == 0)
  theta <- numeric(ncol(scores))
  diseased <- matrix(0, I, ncol(scores))
  healthy <- matrix(0, I, ncol(scores))
  for (k in seq_len(ncol(scores))) {
    total <- 0
    for (i in which(y == 1)) for (j in which(y == 0)) {
      w <- wins(scores[i, k], scores[j, k])
      total <- total + w
      diseased[clusters == cluster[i], k] <- diseased[clusters == cluster[i], k] + w / N
      healthy[clusters == cluster[j], k] <- healthy[clusters == cluster[j], k] + w / M
    }
    theta[k] <- total / (M * N)
  }
  m <- sapply(clusters, function(id) sum(y == 1 & cluster == id))
  n <- sapply(clusters, function(id) sum(y == 0 & cluster == id))
  I10 <- sum(m > 0)
  I01 <- sum(n > 0)
  covariance <- matrix(0, ncol(scores), ncol(scores))
  for (a in seq_len(ncol(scores))) for (b in seq_len(ncol(scores))) {
    S10 <- I10 / ((I10 - 1) * M) * sum((diseased[, a] - m * theta[a]) * (diseased[, b] - m * theta[b]))
    S01 <- I01 / ((I01 - 1) * N) * sum((healthy[, a] - n * theta[a]) * (healthy[, b] - n * theta[b]))
    S11 <- I / (I - 1) * sum((diseased[, a] - m * theta[a]) * (healthy[, b] - n * theta[b]))
    S11_swapped <- I / (I - 1) * sum((diseased[, b] - m * theta[b]) * (healthy[, a] - n * theta[a]))
    covariance[a, b] <- S10 / M + S01 / N + (S11 + S11_swapped) / (M * N)
  }
  list(auc = theta, covariance = covariance)
}
nodes <- read("clustered.csv", colClasses = c(patient = "character"))
out$clustered <- obuchowski(nodes$y, as.matrix(nodes[, c("a", "b")]), nodes$patient)

# --- calibration (glm, rms::val.prob, lowess) ------------------------------------------------------------------------
strict <- glm.control(epsilon = 1e-14, maxit = 100)
calibration <- function(y, p) {
  large <- glm(y ~ 1, offset = qlogis(p), family = binomial, control = strict)
  slope <- glm(y ~ qlogis(p), family = binomial, control = strict)
  stats <- val.prob(p, y, pl = FALSE)
  smooth <- approx(lowess(p, y, iter = 0), xout = p, ties = mean)$y
  list(
    intercept = unname(coef(large)[1]), intercept_se = sqrt(vcov(large)[1, 1]),
    intercept_limits = unname(confint.default(large)[1, ]),
    slope = unname(coef(slope)[2]), slope_se = sqrt(vcov(slope)[2, 2]), slope_limits = unname(confint.default(slope)[2, ]),
    joint_intercept = unname(coef(slope)[1]),
    val_prob = as.list(stats[c("C (ROC)", "Brier", "Intercept", "Slope", "Emax", "E90", "Eavg")]),
    e50 = unname(quantile(abs(p - smooth), 0.5)), smooth = smooth
  )
}
data <- read("calibration.csv")
out$calibration_p <- calibration(data$y, data$p)
out$calibration_p_tied <- calibration(data$y, data$p_tied)
out$calibration_p_groups <- calibration(data$y, data$p_groups)
# nodes of a patient are alike: sandwich between patients
nodes$x <- nodes$a / 4
by_patient <- function(fit) {
  error <- sqrt(diag(vcovCL(fit, cluster = nodes$patient, type = "HC0", cadjust = TRUE)))
  list(value = unname(tail(coef(fit), 1)), se = unname(tail(error, 1)))
}
out$calibration_by_patient <- list(
  intercept = by_patient(glm(y ~ 1, offset = x, family = binomial, data = nodes, control = strict)),
  slope = by_patient(glm(y ~ x, family = binomial, data = nodes, control = strict))
)
# as ResourceSelection::hoslem.test: type-7 quantile groups, right-closed
hosmer <- function(y, p, g = 10) {
  group <- cut(p, breaks = unique(quantile(p, probs = seq(0, 1, 1 / g))), include.lowest = TRUE)
  observed <- xtabs(cbind(1 - y, y) ~ group)
  expected <- xtabs(cbind(1 - p, p) ~ group)
  chi <- sum((observed - expected)^2 / expected)
  list(chi_squared = chi, groups = nrow(observed), p_external = 1 - pchisq(chi, nrow(observed)),
       p_internal = 1 - pchisq(chi, nrow(observed) - 2))
}
out$hosmer_p <- hosmer(data$y, data$p)
out$hosmer_p_tied <- hosmer(data$y, data$p_tied)

# --- proportions, Holm, McNemar -----------------------------------------------------------------------------------------
counts <- list(c(0, 12), c(1, 12), c(6, 12), c(12, 12), c(217, 369), c(464, 529))
out$proportions <- lapply(counts, function(pair) list(
  count = pair[1], n = pair[2],
  wilson = as.numeric(suppressWarnings(prop.test(pair[1], pair[2], correct = FALSE))$conf.int),
  exact = as.numeric(binom.test(pair[1], pair[2])$conf.int)
))
p_values <- c(0.001, 0.04, 0.03, 0.2, 0.011, 0.04, 0.9)
out$holm <- list(p = p_values, adjusted = p.adjust(p_values, method = "holm"))
out$mcnemar <- list(
  exact_9_2 = binom.test(2, 11)$p.value,
  chi_30_14 = mcnemar.test(matrix(c(50, 14, 30, 60), 2), correct = TRUE)$p.value
)

# --- score limits of p1 - w p2 of a trinomial: likelihood maximized under each difference, limits by uniroot -------------
score_limits <- function(x1, x2, n, w) {
  xlog <- function(x, p) ifelse(x == 0, 0, x * log(p))
  statistic <- function(d) {
    likelihood <- function(q) xlog(x1, d + w * q) + xlog(x2, q) + xlog(n - x1 - x2, 1 - d - (1 + w) * q)
    q <- optimize(likelihood, c(max(0, -d / w), (1 - d) / (1 + w)), maximum = TRUE, tol = 1e-14)$maximum
    ((x1 - w * x2) / n - d)^2 / ((d + w * q + w^2 * q - d^2) / n) - qnorm(0.975)^2
  }
  estimate <- (x1 - w * x2) / n
  suppressWarnings(c(
    uniroot(statistic, c(-w + 1e-9, estimate - 1e-9), tol = 1e-13)$root,
    uniroot(statistic, c(estimate + 1e-9, 1 - 1e-9), tol = 1e-13)$root
  ))
}
cases <- list(c(7, 3, 40, 1), c(12, 30, 90, 1 / 9), c(2, 1, 100, 1), c(3, 0, 50, 0.25), c(0, 4, 60, 0.5), c(30, 12, 80, 3))
out$score_limits <- lapply(cases, function(case) list(case = case, limits = do.call(score_limits, as.list(case))))

writeLines(toJSON(out, auto_unbox = TRUE, digits = I(17), pretty = TRUE), file.path(folder, "expected.json"))
