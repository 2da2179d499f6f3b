import { h } from './dom.js';
export class NodePage { constructor() { this.root = h('div', {}); } update() {} }
