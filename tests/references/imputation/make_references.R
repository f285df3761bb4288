# Pooled values of imputed fits and their tests, by mice and mitml, for imputed.csv (which mice makes of clinical_reference.csv).
# Run in this folder: Rscript make_references.R   (R with mice and mitml, from Debian's packages)
suppressMessages({library(mice); library(mitml)})
options(digits = 15)
data <- read.csv("../clinical/clinical_reference.csv", na.strings = "", colClasses = c(patient_id = "character"))
data$er <- factor(data$er, levels = c("negative", "positive"))
data$stage <- factor(data$stage, levels = c("T1", "T2", "T3"))
columns <- c("age", "size_cm", "er", "stage", "node")
imputed <- mice(data[columns], m = 5, seed = 2026, printFlag = FALSE)
tight <- glm.control(epsilon = 1e-14, maxit = 100)
fits <- with(imputed, glm(node ~ age + size_cm + er + stage, family = binomial, control = tight))
long <- complete(imputed, "long")
write.csv(long[c(".imp", ".id", columns)], "imputed.csv", row.names = FALSE, quote = FALSE)

pooled <- pool(fits)$pooled
write_row <- function(kind, name, values) data.frame(kind = kind, name = name, key = names(values), value = unlist(values))
out <- NULL
for (i in seq_len(nrow(pooled))) {
  row <- pooled[i, ]
  values <- c(estimate = row$estimate, standard_error = sqrt(row$t), degrees = row$df, missing = row$fmi)
  out <- rbind(out, write_row("pool", as.character(row$term), values))
}
test <- function(name, formula) {
  full <- with(imputed, glm(formula, family = binomial, control = tight, data = data.frame(age, size_cm, er, stage, node)))
  null <- with(imputed, glm(node ~ 1, family = binomial, control = tight))
  d3 <- D3(full, null)$result
  # mice fits the intercept anew beside the pooled slopes; Meng & Rubin 1992 take all coefficients pooled, as here
  fits <- full$analyses; m <- length(fits); beta <- rowMeans(sapply(fits, coef)); k <- length(beta) - 1
  log_likelihood <- function(fit, b) sum(dbinom(fit$y, 1, plogis(model.matrix(fit) %*% b), log = TRUE))
  at_null <- as.numeric(logLik(null$analyses[[1]]))
  mean_ratio <- mean(sapply(fits, function(fit) 2 * (as.numeric(logLik(fit)) - at_null)))
  at_pooled <- mean(sapply(fits, function(fit) 2 * (log_likelihood(fit, beta) - at_null)))
  r <- (m + 1) / (k * (m - 1)) * (mean_ratio - at_pooled); v <- k * (m - 1)
  w <- if (v > 4) 4 + (v - 4) * (1 + (1 - 2 / v) / r)^2 else v * (1 + 1 / k) * (1 + 1 / r)^2 / 2
  paper <- c(p = pf(at_pooled / (k * (1 + r)), k, w, lower.tail = FALSE), statistic = at_pooled / (k * (1 + r)))
  d2 <- testModels(as.mitml.result(full), as.mitml.result(null), method = "D2", use = "likelihood")$test
  rbind(write_row("D3", name, paper), write_row("D3 of mice", name, c(p = d3[4], statistic = d3[1])),
        write_row("D2", name, c(p = d2[4], statistic = d2[1])))
}
for (name in c("age", "er", "stage")) out <- rbind(out, test(name, reformulate(name, "node")))
scalar <- pool.scalar(c(0.9, 1.1, 1.3), c(0.04, 0.05, 0.06), n = 61, k = 1)
values <- c(estimate = scalar$qbar, standard_error = sqrt(scalar$t), degrees = scalar$df, missing = scalar$fmi)
out <- rbind(out, write_row("scalar", "scalar", values))
out$program <- paste("mice", packageVersion("mice"), "mitml", packageVersion("mitml"), "R", getRversion())
write.csv(format(out, digits = 15, trim = TRUE), "pooled.csv", row.names = FALSE, quote = FALSE)
