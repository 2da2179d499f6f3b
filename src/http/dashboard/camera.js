import { h } from './dom.js';
export class CameraPage { constructor() { this.root = h('div', {}); } update() {} }
