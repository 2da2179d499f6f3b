// Loaded before a program that uses the official npm client (`node --import`), so that it connects with the hub in
// PHYSTACK_SIMULATOR_URL: the address of its hub, http://phyos:55000, is built in, and no option and no variable changes it.

import { createRequire } from "node:module";
import { resolve } from "node:path";

const { PHYSTACK_SIMULATOR_URL: hub, TWINSIGHT_NODE_MODULES: modules } = process.env;
const require = createRequire(resolve(modules, "noop.js"));

// It would go through the machine's proxy to a hub on this machine.
for (const name of ["http_proxy", "https_proxy"]) {
  delete process.env[name];
  delete process.env[name.toUpperCase()];
}

const { PhyHubConnection } = require("@phygrid/hub-client/dist/services/phyhub-connection.service");
PhyHubConnection.prototype.setSocketUrls = function () {
  this.socketUrls = [{ url: hub, timeout: 5000, options: {} }];
};
