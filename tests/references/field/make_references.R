# Reference values of tests/test_report_field.py: Rscript make_references.R > expected.json (metafor from Debian's packages)
suppressMessages(library(metafor))
library(jsonlite)
sets <- list(
  spread = list(y = c(1.2, 1.9, 1.5, 2.6, 0.8, 1.7, 2.2), se = c(0.30, 0.25, 0.20, 0.55, 0.35, 0.15, 0.40)),
  alike = list(y = c(1.50, 1.52, 1.48, 1.55), se = c(0.30, 0.25, 0.40, 0.50)),
  far = list(y = c(0.5, 3.0, 1.2, 2.4, 1.9), se = c(0.10, 0.60, 0.12, 0.35, 0.20))
)
one <- function(set) {
  fit <- rma(set$y, sei = set$se, method = "PM", test = "knha", control = list(tol = 1e-14, maxiter = 1000))
  new <- predict(fit)
  bias <- regtest(set$y, sei = set$se, model = "lm")
  list(y = set$y, se = set$se, mean = fit$b[1], low = fit$ci.lb, high = fit$ci.ub, prediction_low = new$pi.lb,
       prediction_high = new$pi.ub, tau2 = fit$tau2, i_squared = fit$I2 / 100, slope = summary(bias$fit)$coefficients[2, 1],
       t = bias$zval, p = bias$pval)
}
versions <- list(R = paste(R.version$major, R.version$minor, sep = "."), metafor = as.character(packageVersion("metafor")))
cat(toJSON(c(list(versions = versions), lapply(sets, one)), auto_unbox = TRUE, digits = 15, pretty = TRUE), "\n")
