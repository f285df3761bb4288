# Expected values for tests/test_evaluation_reclassification.py, from Hmisc.
#
#   Rscript tests/references/reclassification/make_references.R      (Debian: r-base, r-cran-hmisc, r-cran-jsonlite)
#
# Old model: p of ../evaluation/calibration.csv; new model: p with a shift that depends on the row (none in every
# fifth), so that no file is needed. Writes expected.json beside it.

suppressMessages({
  library(Hmisc)
  library(jsonlite)
})

arguments <- commandArgs(trailingOnly = FALSE)
folder <- dirname(sub("^--file=", "", arguments[grep("^--file=", arguments)]))
data <- read.csv(file.path(folder, "..", "evaluation", "calibration.csv"))
row <- seq_len(nrow(data)) - 1
new <- ifelse(row %% 5 == 0, data$p, plogis(qlogis(data$p) + 0.5 * data$y - 0.2 + 0.6 * sin(row)))
pair <- function(old, new, y) {
  found <- improveProb(old, new, y)
  lapply(found[c("nri", "se.nri", "nri.ev", "se.nri.ev", "nri.ne", "se.nri.ne", "idi", "se.idi", "z.idi", "improveSens",
                 "improveSpec")], as.numeric)
}
out <- list(
  versions = list(
    R = paste(R.version$major, R.version$minor, sep = "."), Hmisc = as.character(packageVersion("Hmisc"))
  ),
  free = pair(data$p, new, data$y),
  # categories as probabilities: any change between them is a change of category
  categories = pair(findInterval(data$p, c(0.2, 0.5)) / 3, findInterval(new, c(0.2, 0.5)) / 3, data$y)
)
writeLines(toJSON(out, auto_unbox = TRUE, digits = I(15), pretty = TRUE), file.path(folder, "expected.json"))
