# Expected values for tests/test_evaluation_partial_auc.py, from pROC.
#
#   Rscript tests/references/partial_auc/make_references.R      (Debian: r-base, r-cran-proc, r-cran-jsonlite)
#
# Reads ../evaluation/paired.csv and writes expected.json beside it.

suppressMessages({
  library(pROC)
  library(jsonlite)
})

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))
data <- read.csv(file.path(folder, "..", "evaluation", "paired.csv"))
curve <- function(y, score) roc(y, score, levels = c(0, 1), direction = "<", quiet = TRUE)

ranges <- list(c(0.8, 1), c(0.9, 1), c(0, 0.5), c(0.333, 0.777), c(0.995, 0.999), c(0, 1))
partial <- function(roc, range, focus, correct) {
  as.numeric(auc(roc, partial.auc = range, partial.auc.focus = focus, partial.auc.correct = correct,
                 allow.invalid.partial.auc.correct = TRUE))
}
out <- list(versions = list(
  R = paste(R.version$major, R.version$minor, sep = "."), pROC = as.character(packageVersion("pROC"))
))
out$partial <- list()
for (column in c("a", "b", "reader", "reversed")) {
  score <- if (column == "reversed") -data$a else data[[column]]
  for (range in ranges) for (focus in c("specificity", "sensitivity")) {
    out$partial[[length(out$partial) + 1]] <- list(
      column = column, focus = focus, low = range[1], high = range[2],
      raw = partial(curve(data$y, score), range, focus, FALSE),
      corrected = partial(curve(data$y, score), range, focus, TRUE)
    )
  }
}

# --- one point of the curve -------------------------------------------------------------------------------------------
specificities <- c(0, 0.25, 0.5, 0.8, 0.9, 0.95, 0.999, 1, 90 / 95)
out$specificities <- specificities
out$sensitivity <- lapply(c(a = "a", b = "b", reader = "reader"), function(column) {
  sapply(specificities, function(x) {
    max(coords(curve(data$y, data[[column]]), x, input = "specificity", ret = "sensitivity", transpose = FALSE))
  })
})

# --- the same resamples on either side: unit i (from 0) of resample r (from 0) is (31 i^2 + 7919 i (r + 1) + 104729 r)
# mod n, so that limits can be compared without sharing a random generator ---------------------------------------------
n <- nrow(data)
i <- 0:(n - 1)
resamples <- lapply(0:199, function(r) (31 * i^2 + 7919 * i * (r + 1) + 104729 * r) %% n + 1)
on_resamples <- function(statistic) sapply(resamples, function(rows) statistic(curve(data$y[rows], data$a[rows])))
limits <- function(values) as.numeric(quantile(values, c(0.025, 0.975)))
specific <- on_resamples(function(roc) partial(roc, c(0.8, 1), "specificity", TRUE))
sensitive <- on_resamples(function(roc) partial(roc, c(0.8, 1), "sensitivity", FALSE))
point <- on_resamples(function(roc) {
  max(coords(roc, 0.9, input = "specificity", ret = "sensitivity", transpose = FALSE))
})
out$resampled <- list(
  specific = specific, specific_limits = limits(specific), sensitive = sensitive, sensitive_limits = limits(sensitive),
  point = point, point_limits = limits(point)
)

# --- pROC's own random intervals, to be met within their Monte Carlo error --------------------------------------------
set.seed(1)
roc_a <- curve(data$y, data$a)
# without reuse.auc = FALSE it would silently give the interval of the whole area, which `roc` has stored
own <- ci.auc(roc_a, reuse.auc = FALSE, partial.auc = c(0.8, 1), partial.auc.correct = TRUE, method = "bootstrap",
              boot.n = 4000, progress = "none")
out$ci_auc <- as.numeric(own)
out$ci_se <- as.numeric(ci.se(roc_a, specificities = 0.9, boot.n = 4000, progress = "none"))[c(1, 3)]

# --- precision and recall ---------------------------------------------------------------------------------------------
points <- coords(roc_a, "all", ret = c("threshold", "precision", "recall"), transpose = FALSE)
points <- points[points$recall > 0 | !is.na(points$precision), ]
out$precision_recall <- list(precision = points$precision, recall = points$recall)

writeLines(toJSON(out, auto_unbox = TRUE, digits = I(15), pretty = FALSE), file.path(folder, "expected.json"))
