// A view of other people, as the issue "The first minute" describes it: it formats numbers of the feed without a check.

import { Chart, registerables } from "chart.js";
import ElementPlus from "element-plus";
import "element-plus/dist/index.css";
import { createApp, nextTick, onMounted, reactive, ref } from "vue/dist/vue.esm-bundler.js";

Chart.register(...registerables);

// Where the feed and the API are: on this page's own server, or at the address in the query.
const base = new URL(new URLSearchParams(location.search).get("exporter") ?? "/", location.href);
const socketUrl = new URL("metrics", base);
socketUrl.protocol = socketUrl.protocol.replace("http", "ws");
const POINTS = 30;
const POLL_MS = 200;

const bytes = (value) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let index = 0;
  let left = value;
  while (left >= 1024 && index < units.length - 1) [left, index] = [left / 1024, index + 1];
  return `${left.toFixed(1)} ${units[index]}`;
};

const line = (canvas, label) =>
  new Chart(canvas, {
    type: "line",
    data: { labels: [], datasets: [{ label, data: [], fill: true }] },
    options: { animation: false, responsive: true, scales: { y: { beginAtZero: true } } },
  });

const append = (chart, value) => {
  const { labels, datasets: [{ data }] } = chart.data;
  labels.push(new Date().toLocaleTimeString());
  data.push(value);
  if (labels.length > POINTS) [labels, data].forEach((list) => list.shift());
  chart.update("none");
};

const View = {
  template: `
    <el-container><el-main>
      <el-alert v-if="!connected" title="Not connected" type="warning" :closable="false" />
      <el-row :gutter="20">
        <el-col :span="6"><el-card header="CPU">
          <el-progress type="dashboard" :percentage="Math.round(stats.cpuUsage || 0)" />
          <p id="cpu">{{ stats.cpuCores }} cores, load {{ stats.loadAverage.toFixed(2) }}</p>
        </el-card></el-col>
        <el-col :span="6"><el-card header="Memory">
          <el-progress type="dashboard" :percentage="Math.round(stats.memoryUsage)" />
          <p id="memory">{{ bytes(stats.memoryUsed) }} used, {{ bytes(stats.memoryAvailable) }} available</p>
        </el-card></el-col>
        <el-col :span="6"><el-card header="GPU">
          <template v-if="stats.gpuInfo">
            <el-progress type="dashboard" :percentage="Math.round(stats.gpuUsage || 0)" />
            <p id="gpu">
              {{ bytes(stats.gpuInfo.memoryUsed) }} / {{ bytes(stats.gpuInfo.memoryTotal) }}, {{ stats.gpuInfo.temperature }} °C
            </p>
          </template>
          <el-empty v-else description="No GPU" :image-size="60" />
        </el-card></el-col>
        <el-col :span="6"><el-card header="Network">
          <p id="network">
            {{ bytes(stats.networkStats.bytesInPerSecond || 0) }}/s in,
            {{ bytes(stats.networkStats.bytesOutPerSecond || 0) }}/s out
          </p>
        </el-card></el-col>
      </el-row>
      <el-card header="API">
        <p id="api">
          {{ stats.apiStats.totalRequests.toLocaleString("en") }} requests,
          {{ stats.apiStats.requestsPerSecond.toFixed(1) }}/s,
          {{ stats.apiStats.avgResponseTime.toFixed(0) }} ms,
          {{ stats.apiStats.errorRate.toFixed(2) }} % errors
        </p>
        <div v-for="(count, range) in stats.apiStats.responseTimeDistribution" :key="range" class="range">
          {{ range }}
          <el-progress :percentage="(count / stats.apiStats.maxDistributionCount) * 100" :format="() => String(count)" />
        </div>
      </el-card>
      <el-card header="Model">
        <el-select v-model="model" placeholder="All models" clearable @change="poll">
          <el-option v-for="one in models" :key="one.id" :label="one.name" :value="one.id" />
        </el-select>
        <p id="model">
          {{ metrics.requestsPerSecond.toFixed(1) }}/s, {{ metrics.avgResponseTime.toFixed(0) }} ms,
          {{ metrics.successRate.toFixed(1) }} %, {{ bytes(metrics.memoryUsage) }}
        </p>
      </el-card>
      <canvas ref="cpuCanvas"></canvas>
      <canvas ref="latencyCanvas"></canvas>
    </el-main></el-container>`,
  setup() {
    const [connected, model, models, cpuCanvas, latencyCanvas] = [ref(false), ref(""), ref([]), ref(), ref()];
    const stats = reactive({
      cpuUsage: 0, cpuCores: 0, loadAverage: 0, memoryUsage: 0, memoryUsed: 0, memoryAvailable: 0,
      gpuUsage: 0, gpuInfo: null, networkStats: { bytesInPerSecond: 0, bytesOutPerSecond: 0 },
      apiStats: {
        totalRequests: 0, requestsPerSecond: 0, avgResponseTime: 0, errorRate: 0,
        responseTimeDistribution: {}, maxDistributionCount: 1,
      },
    });
    const metrics = reactive({ requestsPerSecond: 0, avgResponseTime: 0, successRate: 0, memoryUsage: 0 });
    const get = async (path) => (await fetch(new URL(path, base))).json();
    const poll = async () => {
      const query = model.value ? `?model=${encodeURIComponent(model.value)}` : "";
      models.value = (await get("api/models")).models;
      Object.assign(metrics, await get(`api/models/metrics${query}`));
    };
    onMounted(async () => {
      await nextTick();
      const [cpu, latency] = [line(cpuCanvas.value, "CPU %"), line(latencyCanvas.value, "ms")];
      const socket = new WebSocket(socketUrl);
      socket.onopen = () => (connected.value = true);
      socket.onclose = () => (connected.value = false);
      socket.onmessage = (event) => {
        Object.assign(stats, JSON.parse(event.data));
        append(cpu, stats.cpuUsage);
        append(latency, stats.apiStats.avgResponseTime);
        globalThis.received = (globalThis.received ?? 0) + 1;
      };
      await poll();
      setInterval(poll, POLL_MS);
    });
    return { connected, stats, model, models, metrics, poll, bytes, cpuCanvas, latencyCanvas };
  },
};

const app = createApp(View);
app.config.errorHandler = (error) => console.error(error);
app.use(ElementPlus).mount("#app");
