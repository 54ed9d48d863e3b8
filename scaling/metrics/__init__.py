"""Metrics with standard errors, on the host, from one reading per example: equal readings in equal order, equal bits."""

from scaling.metrics.classes import classification as classification
from scaling.metrics.classes import confusion as confusion
from scaling.metrics.items import ranking as ranking
from scaling.metrics.items import ranks as ranks
from scaling.metrics.metric import Metric as Metric
from scaling.metrics.tokens import language as language
