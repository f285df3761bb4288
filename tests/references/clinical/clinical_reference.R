# Odds ratios, Wald intervals, p-values and nomogram points for clinical_reference.csv.
# Run in this folder: Rscript clinical_reference.R   (R with rms, from Debian's packages)
suppressMessages(library(rms))
options(digits = 15)
data <- read.csv("clinical_reference.csv", na.strings = "", colClasses = c(patient_id = "character"))
data$er <- factor(data$er, levels = c("negative", "positive"))
data$stage <- factor(data$stage, levels = c("T1", "T2", "T3"))
data$subtype <- factor(data$subtype, levels = c("luminal", "HER2", "triple negative"))
variables <- c("age", "size_cm", "er", "stage", "subtype")
tight <- glm.control(epsilon = 1e-14, maxit = 100)

rows <- function(model, fit, variable, p_lr) {
  keep <- startsWith(names(coef(fit)), variable)
  s <- coef(summary(fit))[keep, , drop = FALSE]
  ci <- confint.default(fit)[keep, , drop = FALSE]
  data.frame(model = model, variable = variable, level = sub(variable, "", rownames(s), fixed = TRUE), n = nobs(fit),
             odds_ratio = exp(s[, 1]), low = exp(ci[, 1]), high = exp(ci[, 2]), p_wald = s[, 4], p_likelihood_ratio = p_lr)
}
out <- NULL
for (v in variables) {
  fit <- glm(reformulate(v, "node"), family = binomial, data = data, control = tight)
  out <- rbind(out, rows("univariable", fit, v, anova(fit, test = "Chisq")[2, "Pr(>Chi)"]))
}
full <- glm(reformulate(variables, "node"), family = binomial, data = data[complete.cases(data), ], control = tight)
tests <- drop1(full, test = "Chisq")
for (v in variables) out <- rbind(out, rows("multivariable", full, v, tests[v, "Pr(>Chi)"]))
out$r <- paste0(R.version$major, ".", R.version$minor)
write.csv(format(out, digits = 15, trim = TRUE), "odds_ratios.csv", row.names = FALSE, quote = FALSE)

complete <- data[complete.cases(data), ]
dd <- datadist(complete); options(datadist = "dd")
fit <- lrm(node ~ age + size_cm + er + stage, data = complete, eps = 1e-12, tol = 1e-14, maxit = 100)
nom <- nomogram(fit, fun = plogis, age = c(30, 40, 50, 60, 70, 80), size_cm = c(1, 2, 3, 4, 5, 6), lp = FALSE,
                fun.at = c(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
points <- NULL
for (v in c("age", "size_cm", "er", "stage")) {
  axis <- nom[[v]]
  points <- rbind(points, data.frame(axis = v, label = as.character(axis[[v]]), points = axis$points))
}
axis <- nom[["Predicted Value"]]
points <- rbind(points, data.frame(axis = "probability", label = as.character(axis$fat), points = axis$x))
write.csv(format(points, digits = 15, trim = TRUE), "nomogram_points.csv", row.names = FALSE, quote = FALSE)
cat(R.version.string, "rms", as.character(packageVersion("rms")), "\n")
