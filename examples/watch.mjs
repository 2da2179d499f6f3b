// Prints what a node sees and how its cameras are. Who to listen as: TWIN_ID; whom: the argument.
import hub from '@phygrid/hub-client';

const node = process.argv[2];
const client = await hub.connectPhyClient();
await client.onTwinMessage(node, ({ data: { type, data: event } }) => {
  if (type === 'edgeInstance:detections') {
    const seen = event.objects.map(({ label, score }) => `${label} ${score}`);
    console.log(event.camera.name, seen.join(', ') || 'nothing');
  } else if (type === 'edgeInstance:cameraStatus') {
    console.log(event.camera.name, 'is', event.state, event.reason ?? '');
  }
});
await client.subscribeTwin(node);
