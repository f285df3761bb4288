# Reference values of tests/test_evaluation_design.py: Rscript make_references.R > expected.json (pROC, jsonlite of Debian).
# Large-sample standard error of a difference of two binormal AUCs, Obuchowski & McClish 1997 (Stat Med 16:1529). The covariance
# function of pROC has the terms of the paper; its variance function leaves the cross term out, so that a curve would not have
# the variance of its covariance with itself. So variances are taken from the covariance function, at correlation 1.
suppressMessages({library(pROC); library(jsonlite)})
designs <- list(c(40, 80, 0.86, 0.78, 0.6), c(150, 150, 0.80, 0.75, 0.3), c(31, 53, 0.86, 0.81, 0.84), c(200, 400, 0.7, 0.7, 0))
one <- function(d) {
  a <- sqrt(2) * qnorm(d[3:4])
  kappa <- d[2] / d[1]
  cv <- function(i, j, r) pROC:::cov.params.obuchowski(a[i], 1, a[j], 1, r, r, kappa)
  error <- sqrt((cv(1, 1, 1) + cv(2, 2, 1) - 2 * cv(1, 2, d[5])) / d[1])
  list(design = d, error = error)
}
versions <- list(R = paste(R.version$major, R.version$minor, sep = "."), pROC = as.character(packageVersion("pROC")))
cat(toJSON(list(versions = versions, designs = lapply(designs, one)), auto_unbox = TRUE, digits = 12, pretty = TRUE), "\n")
