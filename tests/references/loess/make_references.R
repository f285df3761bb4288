# Expected values for the loess curve of tests/test_evaluation_calibration.py, from R.
#
#   Rscript tests/references/loess/make_references.R
#   (Debian: r-base-core, r-cran-jsonlite)
#
# Reads the CSV files of ../evaluation and writes expected.json beside it.

library(jsonlite)

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))
read <- function(name) read.csv(file.path(folder, "..", "evaluation", name))

# warnings about pseudoinverses are expected where there are few distinct probabilities
errors <- function(y, p) {
  smooth <- suppressWarnings(fitted(loess(y ~ p, span = 0.75, degree = 2, control = loess.control(surface = "direct"))))
  distance <- abs(smooth - p)
  list(ici = mean(distance), e50 = unname(quantile(distance, 0.5)), e90 = unname(quantile(distance, 0.9)),
       emax = max(distance), smooth = unname(smooth))
}

data <- read("calibration.csv")
nodes <- read("clustered.csv")
# 2,000 skewed probabilities and their outcomes by arithmetic that the test repeats
i <- 1:2000
skewed <- ((i - 0.5) / 2000)^4
few <- c(0.1, 0.2, 0.3, 0.7)
out <- list(
  R = paste(R.version$major, R.version$minor, sep = "."),
  p = errors(data$y, data$p),
  p_tied = errors(data$y, data$p_tied),
  groups_of_three = errors(data$y, ifelse(data$p > 0.6, 0.8, ifelse(data$p > 0.3, 0.4, 0.1))),
  two_values = errors(data$y, ifelse(data$p > 0.3, 0.6, 0.2)),
  by_patient = errors(nodes$y, plogis(nodes$a / 4)),
  skewed = errors(as.numeric((i * 7919) %% 101 / 101 < skewed^0.7), skewed),
  few = errors(c(0, 1, 0, 1), few)
)
writeLines(toJSON(out, auto_unbox = TRUE, digits = I(17), pretty = FALSE), file.path(folder, "expected.json"))
