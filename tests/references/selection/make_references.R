# Expected values for tests/test_radiomics_select.py: wilcox.test, cor(method = "spearman"), glmnet, cv.glmnet.
# Run in this folder: Rscript make_references.R   (R with glmnet, from Debian's packages)
suppressMessages(library(glmnet))
options(digits = 15)
data <- read.csv("patients.csv")
features <- setdiff(names(data), c("y", "fold"))
write <- function(table, name) write.csv(format(table, digits = 15, trim = TRUE), name, row.names = FALSE, quote = FALSE)

small <- c(1:5, 25:31)  # five patients with the outcome, seven without: exact
tests <- NULL
for (f in setdiff(features, "x11")) {
  all <- suppressWarnings(wilcox.test(data[[f]][data$y == 1], data[[f]][data$y == 0], exact = FALSE, correct = TRUE))
  few <- suppressWarnings(wilcox.test(data[[f]][small][data$y[small] == 1], data[[f]][small][data$y[small] == 0]))
  tests <- rbind(tests, data.frame(feature = f, w = all$statistic, p = all$p.value, w_small = few$statistic, p_small = few$p.value))
}
write(tests, "mann_whitney.csv")

varying <- setdiff(features, "x11")
write(as.data.frame(cor(data[varying], method = "spearman")), "spearman.csv")

x <- as.matrix(data[features])
n <- nrow(x)
sd_n <- apply(x, 2, function(v) sqrt(mean((v - mean(v))^2)))
z <- scale(x[, varying], scale = sd_n[varying])
largest <- max(abs(crossprod(z, data$y - mean(data$y)))) / n
lambda <- exp(seq(log(largest), log(largest * 1e-3), length.out = 30))
cv <- suppressWarnings(cv.glmnet(x[, varying], data$y, lambda = lambda, foldid = data$fold, type.measure = "mse",
                                 thresh = 1e-14, maxit = 1e7))
beta <- as.matrix(cv$glmnet.fit$beta) * sd_n[varying]
path <- NULL
for (at in c(5, 12, 20)) path <- rbind(path, data.frame(at = at, feature = varying, coefficient = beta[, at]))
errors <- data.frame(lambda = cv$lambda, error = cv$cvm, se = cv$cvsd, is_min = cv$lambda == cv$lambda.min,
                     is_1se = cv$lambda == cv$lambda.1se)
write(path, "lasso_path.csv")
write(errors, "lasso_errors.csv")
cat(R.version.string, "glmnet", as.character(packageVersion("glmnet")), "\n")
