// Numbers of requests are 0 in the feed without requests, for views that format every number. This page shows "–" then.

// Return the message with null for each number that is not known.
export function withNulls(message) {
  const { apiStats: stats, models } = message;
  return {
    ...message,
    apiStats: {
      ...stats,
      requestsPerSecond: stats.rateSeconds ? stats.requestsPerSecond : null,
      avgResponseTime: stats.recentRequests ? stats.avgResponseTime : null,
      errorRate: stats.eligibleRequests ? stats.errorRate : null,
    },
    models: models.map((model) => ({
      ...model,
      requestsPerSecond: stats.rateSeconds && model.totalRequests !== null ? model.requestsPerSecond : null,
      avgResponseTime: model.recentRequests ? model.avgResponseTime : null,
      successRate: model.eligibleRequests ? model.successRate : null,
      memoryUsage: model.memoryUsage || null,
    })),
  };
}
