# Expected values for tests/test_reference_evaluation.py: net benefit, predictive values, curves, readers.
#
#   Rscript tests/references/complete/make_references.R      (Debian: r-base, r-cran-proc, r-cran-jsonlite)
#
# Reads ../evaluation/*.csv and writes expected.json beside it. Net benefit, average precision and predictive values are
# counted patient by patient; the readers' analysis goes by analysis of variance of jackknife pseudovalues (aov).

suppressMessages({
  library(pROC)
  library(jsonlite)
})

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))
read <- function(name) read.csv(file.path(folder, "..", "evaluation", name))
curve <- function(y, score) roc(y, score, levels = c(0, 1), direction = "<", quiet = TRUE)
paired <- read("paired.csv")
risk <- read("calibration.csv")

out <- list(versions = list(
  R = paste(R.version$major, R.version$minor, sep = "."), pROC = as.character(packageVersion("pROC"))
))

# --- interval of the difference of two AUCs of different patients -------------------------------------------------------
first <- read("unpaired_a.csv")
second <- read("unpaired_b.csv")
a <- curve(first$y, first$score)
b <- curve(second$y, second$score)
test <- roc.test(a, b, method = "delong", paired = FALSE)
delta <- as.numeric(auc(a)) - as.numeric(auc(b))
half <- qt(0.975, test$parameter) * sqrt(var(a, method = "delong") + var(b, method = "delong"))
out$unpaired <- list(delta = delta, low = unname(delta - half), high = unname(delta + half))

# --- net benefit, counted -----------------------------------------------------------------------------------------------
thresholds <- c(0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8)
counted <- function(y, p, share = mean(y)) sapply(thresholds, function(t) {
  treated <- p >= t
  found <- sum(treated[y == 1]) / sum(y == 1)
  needless <- sum(treated[y == 0]) / sum(y == 0)
  found * share - needless * (1 - share) * t / (1 - t)
})
all <- function(share) share - (1 - share) * thresholds / (1 - thresholds)
shifted <- plogis(qlogis(risk$p) + qlogis(0.1) - qlogis(0.4))
out$thresholds <- thresholds
out$net_benefit <- counted(risk$y, risk$p)
out$net_benefit_tied <- counted(risk$y, risk$p_tied)
out$treat_all <- all(mean(risk$y))
out$standardized <- out$net_benefit / mean(risk$y)
out$avoided_per_100 <- (out$net_benefit - out$treat_all) / (thresholds / (1 - thresholds)) * 100
out$net_benefit_at_10_percent <- counted(risk$y, shifted, 0.1)

# --- predictive values at another prevalence (Mercaldo 2007), from epidemiological counts --------------------------------
called <- risk$p >= 0.4
n1 <- sum(risk$y == 1)
n0 <- sum(risk$y == 0)
se <- sum(called & risk$y == 1) / n1
sp <- sum(!called & risk$y == 0) / n0
ppv <- se * 0.15 / (se * 0.15 + (1 - sp) * 0.85)
npv <- sp * 0.85 / (sp * 0.85 + (1 - se) * 0.15)
limits <- function(p, variance) plogis(qlogis(p) + c(-1, 1) * qnorm(0.975) * sqrt(variance))
out$predictive <- list(
  ppv = ppv, npv = npv,
  ppv_limits = limits(ppv, (1 - se) / se / n1 + sp / (1 - sp) / n0),
  npv_limits = limits(npv, se / (1 - se) / n1 + (1 - sp) / sp / n0)
)

# --- average precision by its definition ----------------------------------------------------------------------------------
precise <- function(y, score) {
  recall <- 0
  area <- 0
  for (cut in sort(unique(score), decreasing = TRUE)) {
    hits <- sum(y[score >= cut])
    area <- area + (hits / sum(y) - recall) * hits / sum(score >= cut)
    recall <- hits / sum(y)
  }
  area
}
out$average_precision <- list(a = precise(paired$y, paired$a), reader = precise(paired$y, paired$reader))

# --- band of a ROC curve: pROC's own, to be met within its Monte Carlo error ------------------------------------------------
set.seed(1)
specificities <- c(0.2, 0.5, 0.8, 0.9, 0.95)
band <- ci.se(curve(paired$y, paired$b), specificities = specificities, boot.n = 4000, progress = "none")
out$band <- list(specificity = specificities, low = as.numeric(band[, 1]), high = as.numeric(band[, 3]))
out$sensitivity <- sapply(specificities, function(x) {
  max(coords(curve(paired$y, paired$b), x, input = "specificity", ret = "sensitivity", transpose = FALSE))
})

# --- two modalities, three readers: Dorfman-Berbaum-Metz with Hillis' denominator, by aov of pseudovalues -------------------
n <- nrow(paired)
i <- seq_len(n)
scores <- list(
  list(paired$a, paired$reader, paired$a + sin(i)),
  list(paired$b, paired$b + 0.5 * paired$a, paired$reader + cos(3 * i))
)
values <- do.call(rbind, lapply(1:2, function(modality) do.call(rbind, lapply(1:3, function(reader) {
  score <- scores[[modality]][[reader]]
  whole <- as.numeric(auc(curve(paired$y, score)))
  pseudo <- sapply(i, function(k) n * whole - (n - 1) * as.numeric(auc(curve(paired$y[-k], score[-k]))))
  data.frame(modality = factor(modality), reader = factor(reader), case = factor(i), value = pseudo)
}))))
squares <- summary(aov(value ~ modality * reader * case, data = values))[[1]][["Mean Sq"]]
names(squares) <- c("t", "r", "c", "tr", "tc", "rc", "trc")
error <- squares[["tr"]] + max(squares[["tc"]] - squares[["trc"]], 0)
out$readers <- list(
  f = squares[["t"]] / error, df = error^2 / (squares[["tr"]]^2 / 2), p = pf(squares[["t"]] / error, 1,
    error^2 / (squares[["tr"]]^2 / 2), lower.tail = FALSE), mean_squares = as.list(squares / n)
)
jackknife <- cov(matrix(values$value, nrow = n)) / n
out$readers$covariance <- unname(split(jackknife, row(jackknife)))
out$readers$auc <- as.numeric(tapply(values$value, list(values$reader, values$modality), mean))

writeLines(toJSON(out, auto_unbox = TRUE, digits = I(15), pretty = TRUE), file.path(folder, "expected.json"))
