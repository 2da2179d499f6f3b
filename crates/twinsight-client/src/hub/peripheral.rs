//! Peripheral twins of an app: listed, created or taken over, kept and removed. Whoever creates one with a
//! hardware id that is known takes it over, and the owner before learns of it and falls silent.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::client::HubClient;
use super::error::HubError;
use super::instance::{Instance, to_properties};
use super::message::Twin;
use super::text::brief;

/// What to create: [`Instance::create_peripheral`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PeripheralOptions {
    /// What people call it.
    pub name: String,
    /// What makes it this piece of hardware, unique in the tenant. Whoever creates a peripheral with an id that is known
    /// takes it over.
    pub hardware_id: String,
    /// Its desired properties, where it is new.
    pub desired: Map<String, Value>,
    /// Versions of the descriptors that it follows, by the descriptors' names.
    pub descriptors: Map<String, Value>,
}

impl PeripheralOptions {
    /// A peripheral without desired properties and descriptors.
    pub fn new(name: impl Into<String>, hardware_id: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hardware_id: hardware_id.into(),
            ..Self::default()
        }
    }

    /// Sets the desired properties that it has where it is new.
    #[must_use]
    pub fn with_desired(mut self, desired: Map<String, Value>) -> Self {
        self.desired = desired;
        self
    }

    /// Sets the versions of the descriptors that it follows.
    #[must_use]
    pub fn with_descriptors(mut self, descriptors: Map<String, Value>) -> Self {
        self.descriptors = descriptors;
        self
    }
}

/// A peripheral that was created, or was there and is this app's now.
#[derive(Debug)]
pub struct CreatedPeripheral {
    /// The peripheral as a twin to speak as.
    pub instance: Instance,
    /// What the hub knows about it.
    pub twin: Twin,
    /// False if the hardware id was known.
    pub created: bool,
    /// Who had it before, if somebody else did.
    pub handover: Option<Handover>,
}

/// Who had a peripheral before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handover {
    /// The twin of the app that had it.
    pub previous_instance_id: Option<String>,
    /// The device of that app.
    pub previous_device_id: Option<String>,
}

/// Who has a peripheral now that was this app's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnershipLoss {
    /// The device that has it, if it is another one.
    pub new_device_id: Option<String>,
    /// The twin of the app that has it, if it runs on the same device.
    pub new_instance_id: Option<String>,
}

/// Called once with who has it now.
type LossHandler = Box<dyn FnOnce(OwnershipLoss) + Send>;

/// A peripheral's owner, as far as this client knows.
pub(super) struct Ownership {
    twin_id: Arc<str>,
    state: Mutex<OwnershipState>,
    is_lost: watch::Sender<bool>,
}

/// Whose a peripheral is, as seen from here.
enum OwnershipState {
    /// It never was this app's, so a change of its owner means nothing here.
    Consumer,
    /// It is this app's.
    Owner(Vec<LossHandler>),
    /// It was this app's.
    Lost(OwnershipLoss),
}

impl fmt::Display for OwnershipLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.new_device_id, &self.new_instance_id) {
            (Some(device), _) => write!(f, "device {}", brief(device)),
            (None, Some(instance)) => write!(f, "instance {}", brief(instance)),
            (None, None) => write!(f, "another owner"),
        }
    }
}

impl Ownership {
    pub(super) fn twin_id(&self) -> &Arc<str> {
        &self.twin_id
    }

    /// Who has it now, if it was lost.
    pub(super) fn loss(&self) -> Option<OwnershipLoss> {
        match &*self.state.lock() {
            OwnershipState::Lost(loss) => Some(loss.clone()),
            OwnershipState::Consumer | OwnershipState::Owner(_) => None,
        }
    }

    /// Waits until it is lost.
    #[cfg(feature = "webrtc")]
    pub(super) async fn lost(&self) {
        // An error would mean that the sender is gone, and this holds it.
        let _ = self.is_lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// It belongs to somebody else from now on; `None`: nobody knows to whom.
    pub(super) async fn lose(&self, client: &HubClient, loss: Option<OwnershipLoss>) {
        let loss = loss.unwrap_or_default();
        let handlers = {
            let mut state = self.state.lock();
            let OwnershipState::Owner(handlers) = &mut *state else {
                return;
            };
            let handlers = std::mem::take(handlers);
            *state = OwnershipState::Lost(loss.clone());
            handlers
        };
        tracing::warn!(
            twin_id = %self.twin_id,
            new_owner = %loss,
            "a peripheral twin was taken over: it sends and receives nothing here any more"
        );
        self.is_lost.send_replace(true);
        client.unsubscribe(&self.twin_id).await;
        for handler in handlers {
            let loss = loss.clone();
            // On a task, so that one that panics harms nobody.
            tokio::spawn(async move { handler(loss) });
        }
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership")
            .field("twin_id", &self.twin_id)
            .field("loss", &self.loss())
            .finish_non_exhaustive()
    }
}

impl HubClient {
    /// A peripheral twin to speak as, or to listen to. If it is this app's and somebody takes it over,
    /// the instance falls silent: see [`Instance::on_ownership_lost`].
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let sensor = client.peripheral_instance("sensor-17").await?;
    /// sensor.emit("measured", serde_json::json!({ "celsius": 21.5 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub does not know it, or as [`HubClient::call`].
    pub async fn peripheral_instance(&self, twin_id: &str) -> Result<Instance, HubError> {
        let twin = self.get_twin(twin_id).await?;
        if let Err(error) = self.subscribe(twin_id).await {
            // One that was refused would be asked for again.
            self.unsubscribe(twin_id).await;
            return Err(error);
        }
        Ok(self.hold(&twin))
    }

    fn hold(&self, twin: &Twin) -> Instance {
        let own = self.shared.own_twin_id();
        let device = self.shared.own_device_id();
        let is_owner = owner_of(twin).as_deref() == Some(own.as_str())
            && (device.is_empty() || twin.device_id == device);
        let ownership = Arc::new(Ownership {
            twin_id: twin.id.as_str().into(),
            is_lost: watch::Sender::new(false),
            state: Mutex::new(if is_owner {
                OwnershipState::Owner(Vec::new())
            } else {
                OwnershipState::Consumer
            }),
        });
        if is_owner {
            self.watch(&ownership, own, device);
        }
        Instance::peripheral(self.clone(), ownership)
    }

    /// Every update of the twin tells its owner, so a takeover that was missed is seen with the next.
    fn watch(&self, ownership: &Arc<Ownership>, own: String, device: String) {
        let (client, ownership) = (self.downgrade(), Arc::downgrade(ownership));
        let mut updates = self.twin_updates();
        tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                let Some(ownership) = Weak::upgrade(&ownership) else {
                    return;
                };
                if update.twin_id != *ownership.twin_id {
                    continue;
                }
                let Some(loss) = loss_of(&update.twin, &own, &device) else {
                    continue;
                };
                if let Some(client) = client.upgrade() {
                    ownership.lose(&client, Some(loss)).await;
                }
                return;
            }
        });
    }
}

impl Instance {
    /// The peripheral twins of this app.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// for twin in instance.peripherals().await? {
    ///     println!("{}", twin.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`HubClient::call`].
    pub async fn peripherals(&self) -> Result<Vec<Twin>, HubError> {
        let payload = json!({ "data": { "instanceId": self.twin_id() } });
        let mut answer = self.client().call("getPeripheralTwins", payload).await?;
        Ok(match answer.get_mut("twins").map(Value::take) {
            Some(Value::Array(twins)) => twins.into_iter().filter_map(Twin::from_value).collect(),
            _ => Vec::new(),
        })
    }

    /// Creates a peripheral twin of this app, or takes over the one with this hardware id.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::{HubClient, HubError, PeripheralOptions};
    /// # async fn example(client: HubClient) -> Result<(), HubError> {
    /// let options = PeripheralOptions::new("Door sensor", "sensor-0017");
    /// let created = client.instance().create_peripheral(options).await?;
    /// created.instance.on_ownership_lost(|loss| println!("now of {loss}"));
    /// created.instance.emit("opened", serde_json::json!({ "door": 1 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`HubClient::call`]; also if the hub answers without a twin.
    pub async fn create_peripheral(
        &self,
        options: PeripheralOptions,
    ) -> Result<CreatedPeripheral, HubError> {
        const METHOD: &str = "createPeripheralTwin";
        let own = self.twin();
        let text = |value: Option<&String>| value.filter(|text| !text.is_empty()).cloned();
        let payload = json!({ "data": {
            "deviceId": text(own.as_ref().map(|twin| &twin.device_id)),
            "tenantId": text(own.as_ref().map(|twin| &twin.tenant_id)),
            "instanceId": self.twin_id(),
            "peripheralName": options.name,
            "hardwareId": options.hardware_id,
            "desiredProperties": options.desired,
            "descriptors": options.descriptors,
        } });
        let mut answer = self.client().call(METHOD, payload).await?;
        let twin = answer.get_mut("twin").map(Value::take);
        let twin = twin
            .and_then(Twin::from_value)
            .ok_or_else(|| HubError::Rejected {
                method: METHOD.to_owned(),
                message: "an answer without a twin".to_owned(),
            })?;
        if let Err(error) = self.client().subscribe(&twin.id).await {
            // One that was refused would be asked for again.
            self.client().unsubscribe(&twin.id).await;
            return Err(error);
        }
        let previous = answer
            .get("handover")
            .filter(|handover| handover.is_object());
        let id = |key| move |handover: &Value| Some(handover.get(key)?.as_str()?.to_owned());
        Ok(CreatedPeripheral {
            instance: self.client().hold(&twin),
            created: answer.get("created") == Some(&Value::Bool(true)),
            handover: previous.map(|handover| Handover {
                previous_instance_id: id("previousInstanceId")(handover),
                previous_device_id: id("previousDeviceId")(handover),
            }),
            twin,
        })
    }

    /// Changes desired properties of a peripheral twin; the twin as it is then, if the hub tells it.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let sensor = client.peripheral_instance("sensor-17").await?;
    /// sensor.update_desired(serde_json::json!({ "rate": 5 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Payload`] if the properties are no JSON object, [`HubError::OwnershipLost`] if it was lost, or as
    /// [`HubClient::call`]: only peripherals may do this to themselves.
    pub async fn update_desired(
        &self,
        properties: impl Serialize,
    ) -> Result<Option<Twin>, HubError> {
        let properties = to_properties(properties)?;
        let payload = json!({ "twinId": self.twin_id(), "data": properties });
        let mut answer = self
            .call_owned("updatePeripheralTwinDesired", payload)
            .await?;
        Ok(answer
            .get_mut("twin")
            .map(Value::take)
            .and_then(Twin::from_value))
    }

    /// Removes a peripheral twin from the hub; the twin as it was, if the hub tells it.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// client.peripheral_instance("sensor-17").await?.remove().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it was lost, or as [`HubClient::call`].
    pub async fn remove(&self) -> Result<Option<Twin>, HubError> {
        let payload = json!({ "data": { "twinId": self.twin_id() } });
        let mut answer = self.call_owned("deletePeripheralTwin", payload).await?;
        self.client().unsubscribe(&self.twin_id()).await;
        Ok(answer
            .get_mut("twin")
            .map(Value::take)
            .and_then(Twin::from_value))
    }

    /// Calls a handler, once, when somebody else takes this peripheral over; at once if that has
    /// happened. From then on what is sent as it fails with [`HubError::OwnershipLost`], and no event
    /// comes in. Without effect on a twin that never was this app's.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let sensor = client.peripheral_instance("sensor-17").await?;
    /// sensor.on_ownership_lost(|loss| println!("of {loss} now"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_ownership_lost(&self, handler: impl FnOnce(OwnershipLoss) + Send + 'static) {
        let Some(ownership) = self.ownership() else {
            return;
        };
        let loss = match &mut *ownership.state.lock() {
            OwnershipState::Owner(handlers) => {
                handlers.push(Box::new(handler));
                return;
            }
            OwnershipState::Consumer => return,
            OwnershipState::Lost(loss) => loss.clone(),
        };
        handler(loss);
    }
}

/// The app that a peripheral belongs to.
fn owner_of(twin: &Twin) -> Option<String> {
    let id = twin.properties.desired.get("instanceId")?.as_str()?;
    Some(id.to_owned())
}

/// Who has a twin that was ours, if somebody else does.
fn loss_of(twin: &Twin, own: &str, device: &str) -> Option<OwnershipLoss> {
    if !device.is_empty() && !twin.device_id.is_empty() && twin.device_id != device {
        return Some(OwnershipLoss {
            new_device_id: Some(twin.device_id.clone()),
            new_instance_id: None,
        });
    }
    let owner = owner_of(twin).filter(|owner| owner != own)?;
    Some(OwnershipLoss {
        new_device_id: None,
        new_instance_id: Some(owner),
    })
}
