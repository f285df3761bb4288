# Expected values for tests/test_evaluation_sample_size.py that no paper prints, from base R.
#
#   Rscript tests/references/sample_size/make_references.R      (Debian: r-base, r-cran-jsonlite)
#
# Simulation and adaptive integration stand against the fixed grids of alnlib. Writes expected.json beside
# published.json, which holds values copied from papers and packages.

suppressMessages(library(jsonlite))

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))

# Riley, Van Calster & Collins 2021: Cox-Snell R2 of a logistic model of a million simulated patients
cox_snell <- function(auc, prevalence, n = 1e6) {
  set.seed(20210215)
  y <- rep(c(1, 0), round(n * c(prevalence, 1 - prevalence)))
  x <- rnorm(n, mean = sqrt(2) * qnorm(auc) * y)
  model <- glm(y ~ x, family = binomial)
  1 - exp(-(model$null.deviance - model$deviance) / n)
}
settings <- list(c(0.89, 0.174), c(0.81, 0.77), c(0.7, 0.35), c(0.6, 0.1))
out <- list(versions = list(R = paste(R.version$major, R.version$minor, sep = ".")))
out$cox_snell <- lapply(settings, function(s) list(auc = s[1], prevalence = s[2], r2 = cox_snell(s[1], s[2])))

# Riley et al. 2021, criterion 2, by adaptive integration
slope_size <- function(mean, sd, width) {
  moment <- function(k) {
    integrate(function(x) x^k * dlogis(x) * dnorm(x, mean, sd), mean - 12 * sd, mean + 12 * sd, rel.tol = 1e-11,
              subdivisions = 2000)$value
  }
  moment(0) / ((width / (2 * 1.96))^2 * (moment(0) * moment(2) - moment(1)^2))
}
out$slope <- lapply(list(c(-5, 2.5, 0.2), c(-1.75, 1.22, 0.2), c(0, 1, 0.3)), function(s) {
  list(mean = s[1], sd = s[2], width = s[3], n = slope_size(s[1], s[2], s[3]))
})

# mean and AUC of calibrated normal log odds, from a million simulated patients
simulate <- function(mean, sd, n = 1e6) {
  set.seed(20210907)
  lp <- rnorm(n, mean, sd)
  y <- rbinom(n, 1, plogis(lp))
  list(mean = mean, sd = sd, prevalence = mean(y),
       auc = (sum(rank(lp)[y == 1]) - sum(y) * (sum(y) + 1) / 2) / (sum(y) * (n - sum(y))))
}
out$normal <- list(simulate(-1.75, 1.22), simulate(-0.7, 0.8), simulate(-5, 2.5))

# criterion 3 by trying every n
newcombe <- function(p, a, width) {
  n <- 1:200000
  variance <- a * (1 - a) * (1 + (n / 2 - 1) * (1 - a) / (2 - a) + (n / 2 - 1) * a / (1 + a)) / (n^2 * p * (1 - p))
  which(2 * 1.96 * sqrt(pmax(variance, 0)) <= width & variance > 0)[1]
}
out$auc <- lapply(list(c(0.018, 0.8, 0.1), c(0.2, 0.78, 0.1), c(0.35, 0.7, 0.2), c(0.5, 0.95, 0.05)), function(s) {
  list(prevalence = s[1], auc = s[2], width = s[3], n = newcombe(s[1], s[2], s[3]))
})

writeLines(toJSON(out, auto_unbox = TRUE, digits = I(15), pretty = TRUE), file.path(folder, "expected.json"))
