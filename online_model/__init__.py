"""The learner: a recommender that takes mini-batch updates as it serves. No Kafka, no Faust, no metrics library."""
